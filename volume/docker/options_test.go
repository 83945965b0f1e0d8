package docker_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/docker"
)

func TestTheDocumentationHasEveryOption(t *testing.T) {
	text, err := os.ReadFile("../../docs/docker.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "| Option | Value |")
	table, _, _ := strings.Cut(rest, "\n\n")
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(table, -1) {
		got = append(got, strings.Split(strings.ReplaceAll(row[1], "`", ""), ", ")...)
	}
	want := []string{"from"}
	for _, line := range strings.Split(strings.TrimSpace(volume.OptionHelp()), "\n") {
		want = append(want, strings.Fields(line)[0])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the table has %q, the options are %q", got, want)
	}
}

func TestWhatMeansNothingBesideFromIsRefused(t *testing.T) {
	for key, value := range map[string]string{"uid": "700", "gid": "700", "mode": "700", "follow": "true"} {
		f := &fake{}
		_, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Create", `{"Name":"vol","Opts":{"from":"data","`+key+`":"`+value+`"}}`)
		if !strings.Contains(said, key) || !strings.Contains(said, "from") || len(f.did) > 0 {
			t.Errorf("%s: says %q, and does %v", key, said, f.did)
		}
	}
}
