package api

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestEveryRouteAndKindOfErrorIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(doc), "/CID`", "/{cid}`")
	for _, k := range kinds() {
		if !strings.Contains(text, "`"+k.Name+"`") {
			t.Errorf("error kind %s is not in docs/api.md", k.Name)
		}
	}
	source, err := os.ReadFile("server_state.go")
	if err != nil {
		t.Fatal(err)
	}
	routes := regexp.MustCompile(`s\.handle\("(\w+) "\+prefix\+"([^"]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(routes) < 20 {
		t.Fatalf("only %d routes found in the source", len(routes))
	}
	for _, r := range routes {
		path := strings.ReplaceAll(r[2], "{id}", "ID")
		if !regexp.MustCompile("`" + r[1] + " " + prefix + regexp.QuoteMeta(path) + "[`?]").MatchString(text) {
			t.Errorf("%s %s is not in docs/api.md", r[1], r[2])
		}
	}
}
