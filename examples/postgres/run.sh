#!/bin/sh
# run.sh        makes a database, commits it, loses its rows, looks at them in a second instance, and goes back
# run.sh here   starts the database on this host, once it is stopped on another, and prints how many rows it has
# run.sh stop   stops it, which commits
# run.sh clear  removes all that was made
set -eu
IMAGE=${IMAGE:-postgres}

# What is committed while the database runs is of one instant, and close after a checkpoint.
before='docker exec db psql -qU postgres -c CHECKPOINT && docker pause db'
after='docker unpause db'

start() { # CONTAINER VOLUME
	docker run -d --name "$1" --stop-signal SIGINT --user 999:999 -e POSTGRES_PASSWORD=secret -e PGDATA=/data/db -v "$2:/data" "$IMAGE" >/dev/null
	until docker exec "$1" pg_isready -qh 127.0.0.1; do
		[ "$(docker inspect -f '{{.State.Running}}' "$1")" = true ] || { docker logs "$1" >&2; exit 1; }
		sleep 0.2
	done
}
stop() { docker stop "$1" >/dev/null && docker rm "$1" >/dev/null; }
sql() { docker exec "$1" psql -qAtU postgres -c "$2"; } # CONTAINER STATEMENT
rows() { sql "$1" 'SELECT count(*) FROM notes'; }

case ${1:-} in
"")
	docker volume create -d volary -o uid=999 -o gid=999 -o mode=700 -o commit=10m -o keep=last:100 \
		-o exec-before="$before" -o exec-after="$after" db
	start db db
	sql db 'CREATE TABLE notes (n int); INSERT INTO notes SELECT generate_series(1, 1000)'
	volary volume commit db -m 'a thousand notes'
	volary volume tag db good

	sql db 'DELETE FROM notes'
	echo "after a mistake: $(rows db) rows"

	# The earlier state, in an instance of its own beside the one that runs. Nothing is copied.
	docker volume create -d volary -o from=db@good db-copy
	start db-copy db-copy
	sql db-copy 'INSERT INTO notes VALUES (1001)'
	echo "in the copy: $(rows db-copy) rows, in the database: $(rows db) rows"

	stop db
	volary volume rollback db good
	start db db
	echo "rolled back: $(rows db) rows"
	;;
here)
	# Commands are each host's own; the volume's other options come with it.
	docker volume inspect db >/dev/null
	start db db
	volary volume set db exec-before="$before" exec-after="$after"
	echo "$(rows db) rows"
	;;
stop)
	stop db
	;;
clear)
	docker rm -f db db-copy >/dev/null 2>&1 || true
	docker volume rm -f db db-copy
	;;
*)
	sed -n '2,5s/^# //p' "$0" >&2
	exit 2
	;;
esac
