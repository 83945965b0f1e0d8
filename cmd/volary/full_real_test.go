//go:build real

package main

import "testing"

// onFullDisk runs a script beside a daemon whose state is on a small disk, with a volume data mounted at mnt.
func onFullDisk(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { letGo(dir) })
	shell(t, dir, withVolume+script)
}

const withVolume = `
truncate -s 200M disk.img; mkfs.ext4 -q -m 0 disk.img; mkdir disk; mount -o loop disk.img disk
export VOLARY_HOME=$PWD/disk/state
until_ok() { for _ in $(seq 600); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.05; done; echo "in vain: $*" >&2; return 1; }
daemon() { volary daemon --reserve 24MiB 2>>log & pid=$!; until_ok grep -q listening log; }
stop() { kill $pid && wait $pid; }
end() { set +e; cat log >&2; kill $pid; }
trap end EXIT
mkdir base mnt; echo base > base/a; volary snapshot base --tag base
daemon
volary volume create data --from base
volary volume mount data mnt
fill() { if "$@" 2>err; then echo "the disk is not full" >&2; exit 1; fi; grep -q 'No space' err; }
refused() { code=$1; shift; status=0; "$@" 2>err || status=$?; cat err >&2; test $status = $code; test "$(grep -c ^volary: err)" = 1; }
`

func TestRealWhatAFullDiskHasIsCommitted(t *testing.T) {
	onFullDisk(t, `
head -c 500000 /dev/urandom > mnt/new
fill dd if=/dev/zero of=mnt/zeros bs=64k
sync; fill sh -c 'cat /dev/zero >> mnt/zeros'
cp -a mnt copy
cid=$(volary volume commit data)
grep -q 'reserve used up' log
test ! -e disk/state/volumes/reserve
VOLARY_HOME=$PWD/disk/state volary restore $cid restored
diff -r copy restored
rm -r restored
# again, with nothing left of the reserve: what it gave is there
echo more > mnt/more
volary volume commit data
volary cat data/more
volary volume umount data
diff -r <(volary ls data) <(printf 'a\nmore\nnew\nzeros\n')
# what the volume took is free again, and the reserve there
until_ok grep -q 'reserve is there again' log
volary volume mount data mnt
fill dd if=/dev/zero of=mnt/other bs=64k
volary volume rm --force data
volary volume undelete data
volary volume inspect data
! volary volume umount data 2>/dev/null
stop
until_ok umount disk`)
}

func TestRealWhatDoesNotFitTheDiskStaysInTheVolume(t *testing.T) {
	onFullDisk(t, `
fill dd if=/dev/urandom of=mnt/large bs=64k
sum=$(sha256sum < mnt/large)
refused 6 volary volume commit data
grep -q 'stays in the volume' err
refused 6 volary volume umount data
refused 6 volary volume rm --force data
test "$(volary volume inspect --json data | grep -o '"dirty":[a-z]*')" = '"dirty":true'
volary volume mount data mnt
test "$(sha256sum < mnt/large)" = "$sum"
# room is made in the volume itself
truncate -s 1M mnt/large
sum=$(sha256sum < mnt/large)
volary gc
cid=$(volary volume commit data)
volary volume umount data
volary restore $cid restored
test "$(sha256sum < restored/large)" = "$sum"
volary verify $cid
stop
until_ok umount disk`)
}

func TestRealABaseThatDoesNotFitTheDiskIsMountedAfterAll(t *testing.T) {
	onFullDisk(t, `
volary volume umount data
head -c 16M /dev/urandom > base/large; volary snapshot base --tag large
fallocate -l $(($(df --output=avail disk | tail -1)-8192))K disk/ballast
volary volume create full --from large -o lower=full
before=$(df --output=used disk | tail -1)
refused 6 volary volume mount full
grep -q 'copy 16 MiB, where .* are free' err
grep -q 'lower=lazy' err
until_ok sh -c "test \$(df --output=used disk | tail -1) -le $((before+1024))"
volary volume set full lower=lazy
path=$(volary volume mount full)
cmp base/large $path/large
echo changed > $path/a
volary volume umount full
test "$(volary cat full/a)" = changed
stop
until_ok umount disk`)
}
