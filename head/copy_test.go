package head

import (
	"errors"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
)

func TestACopyIsTheSameHeadForAWhile(t *testing.T) {
	h := sampleFork(t)
	until := time.Now().Add(time.Hour)
	c := must(h.Copy(volumeKey(t, "data"), until))(t)
	if Compare(h, c) != 0 || c.Volume != h.Volume || c.Fork != h.Fork || !c.EndOfLife.Equal(until) {
		t.Errorf("%+v is no copy of %+v", c, h)
	}
	if err := ipns.ValidateWithName(must(ipns.UnmarshalRecord(c.Record))(t), h.Volume); err != nil {
		t.Error(err)
	}
	over := must(h.Copy(volumeKey(t, "data"), time.Now().Add(-time.Hour)))(t)
	if err := ipns.ValidateWithName(must(ipns.UnmarshalRecord(over.Record))(t), h.Volume); !errors.Is(err, ipns.ErrExpiredRecord) {
		t.Errorf("a copy whose time is over: %v", err)
	}
	if _, err := h.Copy(volumeKey(t, "other"), until); !errors.Is(err, ErrSignature) {
		t.Errorf("signed with another volume's key: %v", err)
	}
}
