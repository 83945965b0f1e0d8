package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMigrateDoesNotClearWhatOnlyAFlagLeadsTo(t *testing.T) {
	home := filepath.Join(t.TempDir(), "state")
	root := strings.TrimSpace(volary(t, exitOK, "--home", home, "snapshot", t.TempDir()))
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"volary", "migrate", "--clear", "--home", home, "--kubo", "http://127.0.0.1:9"}, &bytes.Buffer{}, &stderr)
	if code != exitUsage || !strings.Contains(stderr.String(), `kubo = "http://127.0.0.1:9"`) {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	volary(t, exitOK, "--home", home, "verify", root)
	// What the file says may be said again; nothing answers there.
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte("kubo = \"http://127.0.0.1:9\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	volary(t, exitOther, "--home", home, "--kubo", "http://127.0.0.1:9", "migrate", "--clear")
}
