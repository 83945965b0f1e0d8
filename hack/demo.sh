#!/usr/bin/env bash
# demo.sh: a real directory to a CID and back, with the built bin/volary and nothing of the user's.
set -eu -o pipefail

cd "$(dirname "$0")/.."
volary=$PWD/bin/volary
source=$("${GO:-go}" env GOROOT)
work=$(mktemp -d "${TMPDIR:-/tmp}/volary-demo.XXXXXX")
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
export VOLARY_HOME=$work/home
copy=$work/copy

exec 3>&1 # what happens is told here, also when a command's output is kept
say() { printf '\n\033[1m%s\033[0m\n' "$*" >&3; }
[ -t 3 ] || say() { printf '\n%s\n' "$*" >&3; }

# timed COMMAND...: shows the command, runs it, and says how long it took.
timed() {
	printf '$ %s\n' "$(printf '%s ' "$@" | sed "s#$volary#volary#g; s#$work#\$WORK#g; s# \$##")" >&3
	local start=$EPOCHREALTIME status=0
	"$@" || status=$?
	printf '  %.2f s\n' "$(((${EPOCHREALTIME/[.,]/} - ${start/[.,]/}) / 1000))e-3" >&3
	return $status
}

# differ COMMAND...: timed, for a command that ends with 1 because there are differences.
differ() {
	local status=0
	timed "$@" || status=$?
	[ $status = 1 ] || { echo "demo: expected differences (exit code 1), got exit code $status" >&2; exit 1; }
}

if [ ! -O "$source" ]; then
	# Who is not root cannot give files to their owner again, so that the owners would differ.
	cp -R --preserve=mode,timestamps,links "$source" "$work/source"
	source=$work/source
fi

"$volary" init >/dev/null
say "1. Snapshot the Go toolchain's tree: $source, $(find "$source" | wc -l) entries, $(du -sh "$source" | cut -f1)"
first=$(timed "$volary" snapshot "$source")
echo "$first"

say "2. Restore it elsewhere"
timed "$volary" restore "$first" "$copy"

say "3. The two are equal: to diff, and to volary (modes, owners, times and all)"
timed diff -r --no-dereference "$source" "$copy"
timed "$volary" diff "$first" "$copy"
echo "equal: neither found a difference"

say "4. Change the copy: edit one file, add one, remove one, make one executable; and snapshot it"
# Only regular files are touched: a packaged toolchain may hold links that lead out of it.
mapfile -t files < <(find "$copy" -type f -size +1k | sort | awk 'NR % 100 == 1' | head -3)
chmod u+w "$copy" "${files[@]}" "$(dirname "${files[1]}")"
echo "edited" >>"${files[0]}"
rm "${files[1]}"
chmod 0755 "${files[2]}"
mkdir "$copy/notes"
echo "added" >"$copy/notes/hello.txt"
second=$(timed "$volary" snapshot "$copy")
echo "$second"

say "5. Diff the two snapshots"
differ "$volary" diff "$first" "$second"

say "6. Snapshot the source again: nothing changed, nothing is read (the CID is new because the commit has a time; the tree is the same)"
again=$(timed "$volary" snapshot "$source")
echo "$again"

say "Both snapshots took $(du -sh "$VOLARY_HOME" | cut -f1) together; all of it is removed now."
