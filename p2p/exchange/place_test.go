package exchange

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestNobodyWaitsForAPeerWhosePlaceIsTaken(t *testing.T) {
	s := &server{ofPeer: map[peer.ID][]*answer{}, refused: map[peer.ID]time.Time{}}
	reads := make(chan struct{})
	silent := func() error {
		<-reads
		return nil
	}
	for i := range answers {
		if s.enter(peer.ID(fmt.Sprint("silent ", i/answersOfPeer)), silent) == nil {
			t.Fatalf("no place for answer %d", i)
		}
	}
	entered := make(chan *answer, 1)
	go func() { entered <- s.enter("another", silent) }()
	select {
	case a := <-entered:
		if a == nil {
			t.Error("there is no place for another")
		}
	case <-time.After(time.Minute):
		t.Error("all wait until the one reads whose place is taken")
	}
	close(reads)
}

func TestALaneThatIsOpenOnceAnotherFailedIsNotUsed(t *testing.T) {
	x, r := &Exchange{}, &remote{id: "a peer", lanes: 1, noLane: time.Now().Add(time.Hour)}
	near, far := net.Pipe()
	defer near.Close()
	x.giveLane(r, near)
	if conn := x.takeLane(r); conn != nil {
		t.Fatal("something is asked over it")
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF || r.lanes != 0 {
		t.Errorf("%d lanes are counted, and it stays open: %v", r.lanes, err)
	}
}
