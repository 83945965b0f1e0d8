package gossip

import (
	"testing"
)

func TestWhatOneHostPublishesTheOthersHear(t *testing.T) {
	a, b, c := newMember(t, Options{}), newMember(t, Options{}), newMember(t, Options{})
	a.connect(b)
	b.connect(c)
	c.connect(a)
	untilJoined(t, a, b, c)
	first := volumeAt(t, ours(t), "data", 1, "one")
	a.publish(first)
	b.untilAt(first)
	c.untilAt(first)
	key := must(ours(t).DeriveKey("data", 1))(t)
	renamed := news{binding: must(ours(t).Bind("other", key, 2, 0))(t)}
	b.publish(renamed)
	for _, h := range []*member{a, c} {
		h.until("the new name", func() bool {
			v, err := h.table.Volume(first.binding.Volume)
			return err == nil && v.Binding.Name == "other"
		})
	}
}
