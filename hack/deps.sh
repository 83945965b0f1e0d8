#!/usr/bin/env bash
# deps.sh [bench]: installs the Debian packages that the tests, or the benchmark, need, and only what is missing.
set -eu
PATH=$PATH:/usr/sbin:/sbin

needs="
setfattr   attr
setfacl    acl
setcap     libcap2-bin
mkfs.ext4  e2fsprogs
losetup    mount
mount      mount
unshare    util-linux
flock      util-linux
pgrep      procps
fusermount3 fuse3
gcc        gcc
"
if [ "${1:-}" = bench ]; then
	needs="$needs
sqlite3    sqlite3
"
fi
commands="" packages=""
while read -r command package; do
	[ -n "$command" ] || continue
	if ! command -v "$command" >/dev/null; then
		commands="$commands $command"
		packages="$packages $package"
	fi
done <<<"$needs"
if [ ! -e /usr/include/stdlib.h ]; then
	commands="$commands stdlib.h"
	packages="$packages libc6-dev"
fi

[ -n "$packages" ] || exit 0
packages=$(tr ' ' '\n' <<<"$packages" | sort -u | xargs)
if ! command -v apt-get >/dev/null; then
	echo "deps: missing:$commands; this is no Debian, install them by its own means (Debian: $packages)" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "deps: missing:$commands; install them as root: apt-get install $packages" >&2
	exit 1
fi
echo "deps: install $packages" >&2
apt-get -q update >&2
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $packages >&2
