//go:build real

package nettest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWhatTheREADMESaysOfSeveralHostsWorks runs the section's first block on one host and the second one on two others,
// with what the first one's `volary token` prints.
func TestWhatTheREADMESaysOfSeveralHostsWorks(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile("(?s)\n## Several hosts\n.*?\n## ").FindString(string(readme))
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 2 {
		t.Fatalf("the section has %d blocks", len(blocks))
	}
	bin, err := filepath.Abs(filepath.Dir(program))
	if err != nil {
		t.Fatal(err)
	}
	n := New(t, program)
	run := func(h *Host, script string) string {
		if _, err := h.Try(t.Context(), "bash", "-c", "(PATH="+bin+":$PATH; set -eux; "+script+") >out 2>&1"); err != nil {
			t.Fatalf("%v\n%s", err, h.Sh("cat out"))
		}
		return h.Sh("cat out")
	}
	said := run(n.Host("first"), blocks[0][1])
	found := regexp.MustCompile(`volary init --join (\S+) --peer (\S+)`).FindStringSubmatch(said)
	if found == nil {
		t.Fatalf("it does not say what is to be run on another host:\n%s", said)
	}
	var others []*Host
	for _, name := range []string{"second", "third"} {
		h := n.Host(name)
		others = append(others, h)
		if said := run(h, "TOKEN="+found[1]+" PEER="+found[2]+"\n"+blocks[1][1]); !strings.Contains(said, "\nhello\n") {
			t.Errorf("what the first one has is not read here:\n%s", said)
		}
	}
	for _, h := range others {
		h.connected(2) // also to each other, of whom nobody told them
	}
}
