package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestARunPassesOnlyIfEveryTestRanAndPassed(t *testing.T) {
	const (
		pass    = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
		fail    = `{"Action":"fail","Package":"p","Test":"TestB"}` + "\n"
		skip    = `{"Action":"skip","Package":"p","Test":"TestC/sub"}` + "\n"
		noTests = `{"Action":"skip","Package":"q"}` + "\n"
	)
	for _, tc := range []struct {
		name, events string
		exit         error
		want         string // a part of the error, empty for none
	}{
		{"all pass", pass, nil, ""},
		{"package without tests beside one with", pass + noTests, nil, ""},
		{"go test failed", pass, errors.New("exit status 1"), "exit status 1"},
		{"failure", pass + fail, nil, "1 tests failed"},
		{"skipped subtest", pass + skip, nil, "p TestC/sub"},
		{"nothing ran", noTests, nil, "no test ran"},
		{"no output", "", nil, "no test ran"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sum, err := read(strings.NewReader(tc.events), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			err = sum.verdict(tc.exit)
			if tc.want == "" {
				if err != nil {
					t.Fatalf("verdict %v, want none", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("verdict %v, want one that has %q", err, tc.want)
			}
		})
	}
}

func TestOutputOfFailedTestsAndPackagesIsPrinted(t *testing.T) {
	events := `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"loud\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"PASS\n"}
not json
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
`
	var out strings.Builder
	if _, err := read(strings.NewReader(events), &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "loud\nnot json\nFAIL\tp\t0.1s\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}
