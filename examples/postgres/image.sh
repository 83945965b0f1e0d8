#!/bin/sh
# image.sh: imports the PostgreSQL that is installed on this machine as the image NAME (postgres if none is given), for an
# engine that reaches no registry. It takes the same PGDATA as the official image, and wants a busybox that is static.
set -eu
name=${1:-postgres}
bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -n 1)
[ -n "$bin" ] || { echo "no PostgreSQL in /usr/lib/postgresql; Debian: apt-get install postgresql" >&2; exit 1; }
version=$(basename "$(dirname "$bin")")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/etc" "$root/var/run/postgresql" "$root/tmp" "$root/dev/shm"
chmod 3777 "$root/var/run/postgresql" "$root/tmp"

programs="$bin/postgres $bin/initdb $bin/psql $bin/pg_isready $bin/pgbench"
modules=$(find "/usr/lib/postgresql/$version/lib" -maxdepth 1 -name '*.so' ! -name 'llvmjit*')
# shellcheck disable=SC2086 # lists of words
libraries=$(ldd $programs $modules 2>/dev/null | grep -o '/[^ :]*\.so[^ :]*' | grep -v '^/usr/lib/postgresql' | sort -u)
# shellcheck disable=SC2086
cp -L --parents $programs $modules $libraries "$root"
cp -RL --parents "/usr/share/postgresql/$version" "$root"
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in sh cat ls; do ln -s busybox "$root/bin/$applet"; done
printf 'root:x:0:0::/:/bin/sh\npostgres:x:999:999::/:/bin/sh\n' >"$root/etc/passwd"
cat >"$root/entry" <<'END'
#!/bin/sh
set -eu
[ -s "$PGDATA/PG_VERSION" ] || initdb --username=postgres --auth=trust
exec postgres "$@"
END
chmod 755 "$root" "$root/entry"
tar -C "$root" -c . | docker import --change 'ENTRYPOINT ["/entry"]' --change "ENV PATH=$bin:/bin" --change 'ENV TZ=GMT' \
	--change 'ENV LC_ALL=C' - "$name"
