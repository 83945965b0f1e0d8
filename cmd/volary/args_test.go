package main

import (
	"io"
	"strings"
	"testing"
)

func TestFlagsMayFollowArguments(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	for in, want := range map[string]string{
		"volary restore REF DIR --delete":         "volary restore --delete REF DIR",
		"volary snapshot DIR -m text --label a=b": "volary snapshot -m text --label a=b DIR",
		"volary --home H log REF -n 3 --json":     "volary --home H log -n 3 --json REF",
		"volary config show --json":               "volary config show --json",
		"volary tag REF -- -x":                    "volary tag -- REF -x",
		"volary export REF --output=-":            "volary export --output=- REF",
		"volary import -":                         "volary import -",
		"volary nonsense --flag":                  "volary nonsense --flag",
		"volary ls REF --nonsense":                "volary ls --nonsense REF",
		"volary migrate --kubo K --clear":         "volary --kubo K migrate --clear",
		"volary --home H ls REF --kubo=K --json":  "volary --kubo=K --home H ls --json REF",
		"volary init --kubo K --home H":           "volary --home H init --kubo K",
		"volary snapshot DIR -m --home":           "volary snapshot -m --home DIR",
		"volary tag REF -- --home":                "volary tag -- REF --home",
	} {
		if got := strings.Join(permute(app, strings.Fields(in)), " "); got != want {
			t.Errorf("%s\nbecame %s\n  want %s", in, got, want)
		}
	}
}

func TestCompletionKnowsCommandsAndFlags(t *testing.T) {
	for in, want := range map[string]string{
		"volary sn":            "snapshot",
		"volary config ":       "show",
		"volary snapshot --ch": "--chunker",
		"volary --ho":          "--home",
	} {
		var out strings.Builder
		if code := run(t.Context(), append(strings.Split(in, " "), completeFlag), &out, io.Discard); code != exitOK {
			t.Errorf("%s: exit code %d", in, code)
		}
		if !strings.Contains("\n"+out.String(), "\n"+want+"\n") {
			t.Errorf("%s: offers no %s but %q", in, want, out.String())
		}
	}
}
