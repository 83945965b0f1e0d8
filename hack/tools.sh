#!/usr/bin/env bash
# tools.sh NAME...: puts pinned tools into .cache/bin of this checkout.
#
# Each tool is built in a module of its own below tools/, whose go.mod and go.sum are the pin. A build is kept in
# a cache that all checkouts share, named by the hash of those two files, so that a fresh clone links it instead of
# building Kubo again.
set -eu

cd "$(dirname "$0")/.."
bin=$PWD/.cache/bin
shared=${VOLARY_CACHE:-${XDG_CACHE_HOME:-${HOME:-$PWD/.cache}/.cache}/volary}/bin
go=${GO:-go}

# locate NAME sets module and package.
locate() {
	case $1 in
	ipfs) module=tools/kubo package=github.com/ipfs/kubo/cmd/ipfs ;;
	ipfs-cluster-service | ipfs-cluster-ctl) module=tools/cluster package=github.com/ipfs-cluster/ipfs-cluster/cmd/$1 ;;
	restic) module=tools/peers package=github.com/restic/restic/cmd/restic ;;
	kopia) module=tools/peers package=github.com/kopia/kopia ;;
	staticcheck) module=tools/lint package=honnef.co/go/tools/cmd/staticcheck ;;
	*)
		echo "tools.sh: no tool named $1; there are ipfs, ipfs-cluster-service, ipfs-cluster-ctl, restic, kopia and staticcheck" >&2
		exit 2
		;;
	esac
}

# build NAME KEPT builds into a temporary name and renames, so that what is in the cache is whole.
build() {
	echo "build $1 ($package), once; this can take some minutes" >&2
	mkdir -p "$(dirname "$2")"
	local new
	new=$(mktemp "$2.XXXXXX")
	if ! (cd "$module" && GOFLAGS=-mod=readonly GOWORK=off "$go" build -o "$new" "$package"); then
		rm -f "$new"
		echo "tools.sh: building $1 failed; it needs the Go module proxy or a filled module cache" >&2
		exit 1
	fi
	chmod 0755 "$new"
	mv -f "$new" "$2"
}

mkdir -p "$bin"
for name in "$@"; do
	locate "$name"
	key=$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c1-32)-$("$go" env GOOS)-$("$go" env GOARCH)
	stamp=$bin/.$name.stamp
	if [ -x "$bin/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then
		continue
	fi
	kept=$shared/$key/$name
	(
		mkdir -p "$shared"
		exec 9>"$shared/.$name.lock"
		flock 9
		[ -x "$kept" ] || build "$name" "$kept"
	)
	rm -f "$stamp"
	ln -f "$kept" "$bin/$name" 2>/dev/null || { rm -f "$bin/$name" && cp "$kept" "$bin/$name"; }
	echo "$key" >"$stamp"
done
