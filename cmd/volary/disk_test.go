//go:build real

package main

import (
	"flag"
	"net"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// mountExt4 makes a file system of its own of some size below dir, mounted at dir/disk.
const mountExt4 = `
truncate -s 64M disk.img; mkfs.ext4 -q -m 0 disk.img; mkdir disk; mount -o loop disk.img disk
trap 'umount disk' EXIT
`

func TestFullDiskEndsWithOneLineAndLosesNothing(t *testing.T) {
	shell(t, t.TempDir(), mountExt4+`
export VOLARY_HOME=$PWD/disk/state
mkdir small large; echo small > small/file; head -c 100000000 /dev/urandom > large/file
small=$(volary snapshot small)
status=0; volary snapshot large 2>err || status=$?
cat err >&2
test $status = 6; test "$(grep -c ^volary: err)" = 1; grep -q "no space" err; grep -q "volary gc" err
volary verify $small
volary gc
again=$(volary snapshot small)
volary verify $again
# a restore onto the full disk leaves nothing that looks whole
VOLARY_HOME=$PWD/other; large=$(volary snapshot large)
status=0; volary restore $large disk/copy 2>err || status=$?
cat err >&2
test $status = 6; test "$(grep -c ^volary: err)" = 1; test ! -e disk/copy/file`)
}

func TestReadOnlyStateIsReadAndNotWritten(t *testing.T) {
	shell(t, t.TempDir(), mountExt4+`
export VOLARY_HOME=$PWD/disk/state
mkdir dir; echo hello > dir/file
cid=$(volary snapshot dir)
mount -o remount,ro disk
volary verify $cid
volary restore $cid copy
diff -r dir copy
status=0; volary snapshot dir 2>err || status=$?
cat err >&2
test $status = 5; test "$(grep -c ^volary: err)" = 1; grep -q read-only err`)
}

// TestEveryKindOfFileSurvives compares by tools that know nothing of this program.
func TestEveryKindOfFileSurvives(t *testing.T) {
	list := `list() (cd $1 && find . -printf '%p %y %m %U %G %T@ %n %l\n' | sort; find . -type f -exec sha256sum {} + | sort; getfattr -R -h -d -m - . 2>/dev/null; getfacl -R -p . 2>/dev/null; find . -type c -o -type b | sort | xargs -r stat -c '%n %t %T')`
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "src"), 0o755); err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "src", "socket")})
	if err != nil {
		t.Fatal(err)
	}
	socket.SetUnlinkOnClose(false)
	socket.Close()
	shell(t, dir, list+`
mkdir -p src/sub/empty; cd src
echo text > plain; : > none; head -c 3000000 /dev/urandom > large; ln plain hard; ln plain sub/hard2
truncate -s 10M sparse; printf x | dd of=sparse bs=1 seek=5000000 conv=notrunc 2>/dev/null
ln -s plain soft; ln -s /nowhere/at/all dangling; mkfifo fifo
mknod char c 1 3; mknod block b 7 9
cp plain suid; chmod 6755 suid; chmod 1777 sub; chown 1234:5678 large; chown -h 4:5 soft
setfattr -n user.note -v hello plain; setfattr -n trusted.t -v secret sub; setfacl -m u:42:rw plain; setfacl -d -m g:43:rx sub
cp plain cap; setcap cap_net_raw+ep cap
printf odd > "$(printf 'line\nfeed')"; printf odd > "$(printf '\377\376')"
touch -d '1969-07-20 20:17:40.123456789 UTC' plain; touch -h -d '2100-01-01 00:00:00.5 UTC' soft; touch -d '2001-02-03 04:05:06.000000007 UTC' sub/empty sub .
cd ..
cid=$(volary snapshot src)
volary restore $cid copy 2>/dev/null
list src > a; list copy > b
diff a b >&2
test $(stat -c %b copy/sparse) -lt 200
volary diff $cid copy
# elsewhere, what could harm is left out, unless it is asked for
volary export $cid -o out.car
export VOLARY_HOME=$PWD/elsewhere
volary import out.car
volary restore $cid foreign 2>err
cat err >&2
test -S copy/socket; test ! -e foreign/char; test ! -u foreign/suid; test -z "$(getcap foreign/cap)"; grep -q 'made elsewhere' err
volary restore $cid foreign --privileged
list foreign > c
diff a c >&2`)
}

// TestStatesOfAllVersionsOpen has state directories that this version and earlier ones wrote.
func TestStatesOfAllVersionsOpen(t *testing.T) {
	golden := func(name string) string {
		archive, err := filepath.Abs("testdata/golden/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return archive
	}
	if *update { // those of earlier versions stay as they are
		shell(t, t.TempDir(), `
mkdir -p dir/sub; echo golden > dir/file; echo deep > dir/sub/file; touch -d '2026-01-01 UTC' dir/file dir/sub/file dir/sub dir
volary snapshot dir --tag golden --message 'a golden one'
volary volume create data --from golden -o trash=0s
volary volume rollback data 1
volary volume create other --from golden -o trash=0s
tar -C volary -czf `+golden("state-v2.tar.gz")+` --exclude=identity .`)
	}
	for _, name := range []string{"state-v1.tar.gz", "state-v2.tar.gz"} {
		shell(t, t.TempDir(), `
mkdir volary; tar -C volary -xzf `+golden(name)+`
volary verify golden
test "$(volary cat golden/sub/file)" = deep
volary restore golden copy
test "$(cat copy/file)" = golden
volary log golden | grep -q 'a golden one'
volary snapshot copy
volary gc
volary verify golden
grep -q '"version":2}' volary/state.json`)
	}
	for _, name := range []string{"state-v1-volumes.tar.gz", "state-v2.tar.gz"} {
		shell(t, t.TempDir(), `
mkdir volary; tar -C volary -xzf `+golden(name)+`
# what was begun and did not come to its end
grep -q '"version":2' volary/state.json || echo '{"version":2,"from":1}' > volary/state.json
data=$(volary volume inspect --json data | sed 's/.*"head":"\([^"]*\).*/\1/'); other=$(volary volume inspect --json other | sed 's/.*"head":"\([^"]*\).*/\1/')
volary export data -o data.car
volary import data.car
volary stat $data | grep -q 'kept *true'
volary tag -d golden
volary volume rm data; volary volume rm other
volary daemon & trap 'kill $!' EXIT
for i in $(seq 300); do left=$(volary volume ls --trash -q); test -n "$left" || break; sleep 0.1; done
test -z "$left"
volary gc
volary verify $data
status=0; volary cat $other/file || status=$?; test $status = 3
volary rm $data
volary gc
status=0; volary cat $data/file || status=$?; test $status = 3`)
	}
}

// TestLargeFilesAreRestoredWhole is about files that are written past the page cache, on a file system that
// takes that and on one that may not, and with an end that is not aligned.
func TestLargeFilesAreRestoredWhole(t *testing.T) {
	shell(t, t.TempDir(), `
mkdir src; head -c 70000001 /dev/urandom > src/large
cid=$(volary snapshot src)
mkdir tmpfs; mount -t tmpfs tmpfs tmpfs; trap 'umount tmpfs' EXIT
for dst in copy tmpfs/copy; do
	volary restore $cid $dst
	cmp src/large $dst/large
	printf X | dd of=$dst/large bs=1 seek=34567890 conv=notrunc 2>/dev/null
	volary restore $cid $dst
	cmp src/large $dst/large
	volary restore --json $cid $dst | grep -q '"made":0,"replaced":0'
done
# no room: nothing that looks whole stays
truncate -s 64M disk.img; mkfs.ext4 -q -m 0 disk.img; mkdir disk; mount -o loop disk.img disk; trap 'umount tmpfs disk' EXIT
status=0; volary restore $cid disk/copy || status=$?
test $status = 6; test ! -e disk/copy/large`)
}
