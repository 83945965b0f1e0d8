//go:build real

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/volary/volary/snapshot/kubo/kubotest"
)

func TestDoctorLeavesNothingInKuboAndNamesOneThatIsStopped(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	addr, err := d.API()
	if err != nil {
		t.Fatal(err)
	}
	stored := func() string {
		refs, err := d.Run(t.Context(), "refs", "local")
		if err != nil {
			t.Fatal(err)
		}
		pins, err := d.Run(t.Context(), "pin", "ls")
		if err != nil {
			t.Fatal(err)
		}
		return refs + pins
	}
	home := filepath.Join(t.TempDir(), "state")
	volary(t, exitOK, "--home", home, "init", "--kubo", addr)
	before := stored()
	out := volary(t, exitOK, "--home", home, "doctor")
	for _, want := range []string{"kubo: version", "clock: agrees", "kubo throughput: ", "swarm: "} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
	if after := stored(); after != before {
		t.Errorf("the daemon had\n%s\nand has\n%s", before, after)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	out = volary(t, exitBroken, "--home", home, "doctor")
	if !strings.HasPrefix(out, "broken  kubo: ") || !strings.Contains(out, addr) {
		t.Errorf("doctor does not begin with the daemon that is stopped:\n%s", out)
	}
}
