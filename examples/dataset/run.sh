#!/bin/sh
# run.sh publish DIR        makes a dataset of a directory, and prints its CID
# run.sh read CID [COMMAND] runs COMMAND in ten containers that have the dataset at /data; each knows its number as N
set -eu
IMAGE=${IMAGE:-busybox}

case $#,${1:-} in
2,publish)
	volary snapshot "$2"
	;;
[23],read)
	# Nothing is copied: what a container reads is brought here when it reads it, once for all of them.
	volume=dataset-$$
	docker volume create -d volary -o from="$2" -o readonly=true $volume >/dev/null
	containers=
	trap 'docker rm -f $containers >/dev/null 2>&1 || true; docker volume rm -f $volume >/dev/null' EXIT
	trap 'exit 1' INT TERM
	command=${3:-'find /data -type f | sort | awk "NR % 10 == $N % 10" | xargs -r sha256sum'}
	for n in 1 2 3 4 5 6 7 8 9 10; do
		c=$(docker create -e N=$n -v $volume:/data "$IMAGE" sh -c "$command")
		containers="$containers $c"
		docker start "$c" >/dev/null
	done
	failed=0
	for c in $containers; do
		[ "$(docker wait "$c")" = 0 ] || failed=1
		docker logs "$c"
	done
	exit $failed
	;;
*)
	sed -n '2,3s/^# //p' "$0" >&2
	exit 2
	;;
esac
