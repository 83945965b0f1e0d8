//go:build real

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shell runs a script with the built program and the real ipfs, offline, each with state of its own.
func shell(t *testing.T, dir, script string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-eu", "-o", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "VOLARY_HOME="+filepath.Join(dir, "volary"), "IPFS_PATH="+filepath.Join(dir, "ipfs"),
		"PATH="+filepath.Join(root, "bin")+":"+filepath.Join(root, ".cache", "bin")+":"+os.Getenv("PATH"))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

const makeTree = `
export IPFS_TELEMETRY=off
ipfs() { command ipfs --offline "$@"; }
mkdir -p src/empty src/sub/deeper
: > src/none; echo one > src/one; head -c 5000000 /dev/urandom > src/sub/large
ln -s ../one src/sub/deeper/link
printf x > 'src/a name with spaces'; printf y > src/ü; printf z > "src/$(printf 'line\nfeed')"; printf h > src/.hidden
mkdir src/many; for i in $(seq 1 6000); do echo $i > src/many/entry-with-a-long-name-$i; done
ipfs init --profile=unixfs-v1-2025 >/dev/null`

func TestTreeHasTheCIDThatIPFSGives(t *testing.T) {
	out := shell(t, t.TempDir(), makeTree+`
volary stat --json $(volary snapshot src) | grep -o '"tree":"[^"]*"' | cut -d'"' -f4
ipfs add -r --hidden -Q --only-hash src`)
	ours, theirs, ok := strings.Cut(out, "\n")
	if !ok || ours != theirs {
		t.Errorf("volary says %q, ipfs says %q", ours, theirs)
	}
}

func TestIPFSReadsOurArchive(t *testing.T) {
	shell(t, t.TempDir(), makeTree+`
cid=$(volary snapshot src)
volary export $cid -o out.car
ipfs dag import --pin-roots=true out.car >/dev/null
tree=$(volary stat --json $cid | grep -o '"tree":"[^"]*"' | cut -d'"' -f4)
ipfs get -o got $tree >/dev/null 2>&1
diff -r --no-dereference src got
ipfs get -o again /ipfs/$cid/tree/sub >/dev/null 2>&1
diff -r --no-dereference src/sub again`)
}

func TestArchiveMadeByIPFSIsTaken(t *testing.T) {
	shell(t, t.TempDir(), makeTree+`
root=$(ipfs add -r --hidden -Q src)
ipfs dag export $root > theirs.car 2>/dev/null
test "$(volary import theirs.car)" = $root
volary verify $root
volary restore $root got
diff -r --no-dereference src got
volary cat $root/sub/large | cmp - src/sub/large`)
}
