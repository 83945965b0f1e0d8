#!/bin/sh
# run.sh up CID   starts the application on the dataset
# run.sh down     stops it
# run.sh clear    removes its volumes too; the index can be taken back for a week: volary volume undelete app_index
set -eu
cd "$(dirname "$0")"
compose() {
	if docker compose version >/dev/null 2>&1; then
		docker compose -p app "$@"
	else
		docker-compose -p app "$@"
	fi
}

case $#,${1:-} in
2,up) DATASET=$2 compose up -d ;;
1,down) compose down ;;
1,clear) compose down -v ;;
*)
	sed -n '2,4s/^# //p' "${0##*/}" >&2
	exit 2
	;;
esac
