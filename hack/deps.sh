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
ip         iproute2
iptables   iptables
gcc        gcc
dockerd    docker.io
busybox    busybox-static
systemd-analyze systemd
docker-compose docker-compose
"
if [ "${1:-}" = bench ]; then
	needs="$needs
sqlite3    sqlite3
curl       curl
rclone     rclone
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
if ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
	commands="$commands postgres"
	packages="$packages postgresql"
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
# Nothing is started: what tests run they start themselves. Of PostgreSQL no database is made either.
if [[ $packages == *postgresql* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
	mkdir -p /etc/postgresql-common
	echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
fi
# shellcheck disable=SC2086 # a list of words
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $packages >&2
