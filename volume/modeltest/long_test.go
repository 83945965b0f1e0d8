//go:build real && long

package modeltest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/zombie"
)

// TestLongAVolumeIsAPlainDirectory takes 100,000 steps, in volumes of all kinds.
func TestLongAVolumeIsAPlainDirectory(t *testing.T) {
	for i := range 10 {
		options := map[string]string{}
		if i%3 == 2 {
			options["lower"] = volume.LowerFull
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) { model(t, options, "", 10_000) })
	}
}

// TestLongDaemonsDieAndAVolumeIsAPlainDirectory takes 30,000 steps, with a daemon that ends at about every fiftieth.
func TestLongDaemonsDieAndAVolumeIsAPlainDirectory(t *testing.T) {
	bin := program(t)
	for i := range 3 {
		options := map[string]string{}
		if i == 2 {
			options["lower"] = volume.LowerFull
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) { model(t, options, bin, 10_000) })
	}
}

// TestLongNothingIsLost ends lives at every step, each time that it is taken.
func TestLongNothingIsLost(t *testing.T) {
	for name, how := range map[string]crash{"killed": {}, "killed, held": {held: true}, "without power": {power: true}} {
		t.Run(name, func(t *testing.T) { crashes(t, how, func(int, int) bool { return true }) })
	}
}

// TestLongADaemonFollowsOneThatWasToldToEnd is about one that waits for what it would have to answer itself.
func TestLongADaemonFollowsOneThatWasToldToEnd(t *testing.T) {
	followed(t, func(d *daemon) {
		must(t, d.process.Process.Signal(unix.SIGTERM))
		p, err := zombie.Find(d.process.Process.Pid)
		must(t, err)
		for end := time.Now().Add(startTime); !p.Killed(); {
			if time.Now().After(end) {
				t.Fatalf("it goes on\n%s", d.log.String())
			}
			<-time.After(20 * time.Millisecond)
		}
		if !strings.Contains(d.log.String(), "it ends as if it were killed") {
			t.Errorf("it said\n%s", d.log.String())
		}
		d.dying = append(d.dying, d.ended)
		must(t, d.host.Closer.Close())
	})
}
