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
	text := regexp.MustCompile("/CID([`/?])").ReplaceAllString(string(doc), "/{cid}$1")
	for _, k := range kinds() {
		if !strings.Contains(text, "`"+k.Name+"`") {
			t.Errorf("error kind %s is not in docs/api.md", k.Name)
		}
	}
	var source []byte
	for _, file := range []string{"server_state.go", "server_replicas.go", "server_network.go", "server_volumes.go"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, b...)
	}
	routes := regexp.MustCompile(`s\.handle\("(\w+) "\+prefix\+"([^"]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(routes) < 24 {
		t.Fatalf("only %d routes found in the source", len(routes))
	}
	for _, r := range routes {
		path := strings.ReplaceAll(r[2], "{id}", "ID")
		if !regexp.MustCompile("`" + r[1] + " " + prefix + regexp.QuoteMeta(path) + "[`?]").MatchString(text) {
			t.Errorf("%s %s is not in docs/api.md", r[1], r[2])
		}
	}
}
