// Package volary_test checks rules about the repository as a whole, which no package could check for itself.
package volary_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/volary/volary/"

// anything is for packages at the upper end, which wire others together.
const anything = "*"

// mayImport lists, for each package of the module, which other packages of the module its code imports at most.
// Imports point one way: cmd → adapters → pinset → snapshot. Tests may import whatever they need.
var mayImport = map[string][]string{
	"snapshot/dagcbor":         {},
	"snapshot":                 {"snapshot/dagcbor"},
	"snapshot/blockstest":      {"snapshot"},
	"snapshot/disktest":        {},
	"snapshot/durable":         {},
	"snapshot/meta":            {"snapshot", "snapshot/dagcbor"},
	"snapshot/unixfs":          {"snapshot", "snapshot/meta"},
	"snapshot/tree":            {"snapshot", "snapshot/meta", "snapshot/unixfs"},
	"snapshot/tree/treetest":   {"snapshot", "snapshot/blockstest", "snapshot/meta", "snapshot/unixfs"},
	"snapshot/holes":           {"snapshot/meta"},
	"snapshot/importer":        {"snapshot", "snapshot/holes", "snapshot/meta", "snapshot/tree", "snapshot/unixfs"},
	"snapshot/restorer":        {"snapshot", "snapshot/holes", "snapshot/meta", "snapshot/tree", "snapshot/unixfs"},
	"snapshot/diff":            {"snapshot", "snapshot/meta", "snapshot/tree", "snapshot/unixfs"},
	"snapshot/apply":           {"snapshot", "snapshot/meta", "snapshot/tree", "snapshot/unixfs"},
	"snapshot/merge":           {"snapshot", "snapshot/apply", "snapshot/diff", "snapshot/meta", "snapshot/tree"},
	"snapshot/archive":         {"snapshot"},
	"snapshot/view":            {"snapshot", "snapshot/meta", "snapshot/tree", "snapshot/unixfs"},
	"snapshot/store":           {"snapshot", "snapshot/durable"},
	"snapshot/cached":          {"snapshot"},
	"snapshot/kubo":            {"snapshot", "snapshot/dagcbor"},
	"snapshot/kubo/kubotest":   {},
	"statedb":                  {"snapshot", "snapshot/durable"},
	"zombie":                   {},
	"namespace":                {"snapshot/dagcbor"},
	"head":                     {"namespace", "snapshot", "snapshot/dagcbor", "snapshot/unixfs"},
	"head/table":               {"head", "namespace", "snapshot", "statedb"},
	"p2p":                      {"namespace", "snapshot/durable"},
	"p2p/exchange":             {"snapshot"},
	"p2p/gateway":              {"snapshot"},
	"p2p/trustless":            {"snapshot"},
	"p2p/nettest":              {},
	"snapshot/hydrate":         {"snapshot"},
	"head/flood":               {},
	"head/gossip":              {"head", "head/flood", "head/table", "namespace", "snapshot/dagcbor"},
	"head/published":           {"head", "head/flood", "namespace"},
	"head/lease":               {"namespace", "snapshot/dagcbor"},
	"pinset":                   {},
	"pinset/pinsettest":        {"pinset"},
	"pinset/local":             {"pinset", "snapshot", "snapshot/store"},
	"pinset/kept":              {"pinset", "pinset/local", "snapshot", "snapshot/importer", "snapshot/kubo", "snapshot/store"},
	"pinset/directory":         {"head", "namespace", "pinset"},
	"pinset/outbox":            {"pinset", "snapshot", "statedb"},
	"volume":                   {"pinset", "snapshot", "snapshot/apply", "snapshot/durable", "snapshot/importer", "snapshot/merge", "snapshot/meta", "snapshot/tree", "snapshot/unixfs", "statedb", "volume/mounts"},
	"volume/overlay":           {"snapshot", "snapshot/apply", "snapshot/importer", "snapshot/meta", "snapshot/restorer", "snapshot/tree", "snapshot/unixfs", "volume", "volume/mounts", "volume/procs", "volume/quota"},
	"volume/mounts":            {},
	"volume/procs":             {"volume/mounts"},
	"volume/quota":             {},
	"volume/freezer":           {"volume", "volume/mounts", "volume/procs"},
	"volume/holder":            {"snapshot/tree", "snapshot/view", "volume", "volume/mounts"},
	"volume/mounttest":         {"snapshot", "snapshot/blockstest", "snapshot/importer", "snapshot/meta", "snapshot/restorer", "snapshot/tree", "snapshot/tree/treetest", "snapshot/unixfs", "volume"},
	"volume/modeltest":         {"snapshot/meta", "snapshot/tree"},
	"volume/publish":           {"head", "head/table", "namespace", "pinset", "pinset/directory", "snapshot", "volume"},
	"volume/rotation":          {"head", "head/table", "namespace", "pinset", "snapshot", "volume", "volume/publish"},
	"volume/docker":            {"volume"},
	"volume/docker/dockertest": {"p2p/nettest", "pinset/cluster/clustertest"},
	"volume/api":               {"pinset", "snapshot", "snapshot/importer", "volume", "zombie"},
	"cmd/volary":               {anything},

	"pinset/cluster":             {"pinset"},
	"pinset/cluster/clustertest": {},

	"bench":             {"namespace", "p2p", "p2p/nettest", "pinset", "pinset/cluster", "pinset/cluster/clustertest", "pinset/local", "snapshot/store", "volume/docker/dockertest"},
	"bench/storechoice": {anything},
	"hack/cluster":      {"pinset/cluster/clustertest"},
	"hack/gotest":       {},
}

// contracts are the packages whose interfaces others implement. What they import, everybody imports.
var contracts = []string{"snapshot", "pinset"}

// outside is what a contract must not know of: other people's services, transports, storage and logging.
var outside = []string{
	"log", "net/http", "database/sql",
	"github.com/cockroachdb/pebble", "github.com/container-storage-interface", "github.com/docker",
	"github.com/hanwen/go-fuse", "github.com/ipfs-cluster", "github.com/ipfs/go-log", "github.com/ipfs/kubo",
	"github.com/prometheus", "github.com/sirupsen/logrus", "github.com/urfave/cli", "go.uber.org/zap",
}

const (
	mostLines     = 400
	mostTestLines = 600
)

// source is one parsed Go file.
type source struct {
	path, dir string
	test      bool
	file      *ast.File
	text      []byte
}

func TestImportsPointOneWay(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		allowed, ok := mayImport[s.dir]
		if !ok {
			t.Errorf("%s: package %s is not in mayImport; give it a row that says what it may import", s.path, s.dir)
			continue
		}
		for _, imported := range imports(t, s) {
			to, internal := strings.CutPrefix(imported, module)
			if internal && !slices.Contains(allowed, to) && !slices.Contains(allowed, anything) {
				t.Errorf("%s: %s may not import %s", s.path, s.dir, to)
			}
		}
	}
}

func TestNobodyImportsTheUpperEnd(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range imports(t, s) {
			to, internal := strings.CutPrefix(imported, module)
			if internal && slices.Contains(mayImport[to], anything) && to != s.dir {
				t.Errorf("%s imports %s, which wires others together", s.path, to)
			}
		}
	}
}

func TestContractsKnowNothingOfTheOutside(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !slices.Contains(contracts, s.dir) {
			continue
		}
		for _, imported := range imports(t, s) {
			for _, o := range outside {
				if imported == o || strings.HasPrefix(imported, o+"/") && o != "log" {
					t.Errorf("%s: a contract imports %s", s.path, imported)
				}
			}
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		var found []string
		if s.file.Doc != nil {
			found = []string{s.path}
		}
		comments[s.dir] = append(comments[s.dir], found...)
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("package %s has %d package comments, want one: %v", dir, len(files), files)
		}
	}
}

func TestNothingRunsBeforeMain(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function; wire it by hand", s.path)
			}
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		most := mostLines
		if s.test {
			most = mostTestLines
		}
		if n := bytes.Count(s.text, []byte("\n")); n > most {
			t.Errorf("%s has %d lines, at most %d are wanted", s.path, n, most)
		}
	}
}

// A path outside of the repository means something to one machine only.
func TestNoFileNamesAPlaceOutsideOfTheRepository(t *testing.T) {
	elsewhere := regexp.MustCompile(`(^|[^A-Za-z0-9_.$})-])/` + `work/|\.\./` + `shared`)
	eachFile(t, func(path string, text []byte) {
		if found := elsewhere.Find(text); found != nil {
			t.Errorf("%s mentions %q", path, found)
		}
	})
}

// sources parses all Go files of the module. Those in testdata count as tests.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	eachFile(t, func(name string, text []byte) {
		if path.Ext(name) != ".go" {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		test := strings.HasSuffix(name, "_test.go") || slices.Contains(strings.Split(name, "/"), "testdata")
		all = append(all, source{name, path.Dir(name), test, file, text})
	})
	if len(all) == 0 {
		t.Fatal("no Go file found")
	}
	return all
}

// imports lists the import paths of a file.
func imports(t *testing.T, s source) []string {
	t.Helper()
	var paths []string
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: import %s: %v", s.path, spec.Path.Value, err)
		}
		paths = append(paths, p)
	}
	return paths
}

// eachFile calls f with the path and content of every file of the repository, but not of what is built in it.
func eachFile(t *testing.T, f func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		outside := slices.Contains([]string{".git", ".cache", "bin"}, path) // .git is a file in a further work tree
		if d.IsDir() && outside {
			return filepath.SkipDir
		}
		if outside || !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(path), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
