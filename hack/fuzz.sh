#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target of the repository for TIME each.
#
# Minimizing is cut short: by default the go command spends up to a minute on each input that reaches new code, and so
# all of a short run on the first.
#
# The go command leaves inputs that reached new code in its build cache, where they are lost with the machine. The
# small ones are copied into testdata/fuzz of their package, up to $keep for each target, so that every run, and
# every go test, starts from them.
set -eu

cd "$(dirname "$0")/.."
go=${GO:-go}
time=${1:?usage: fuzz.sh TIME}
keep=${FUZZKEEP:-200}
module=$("$go" list -m)
corpora=$("$go" env GOCACHE)/fuzz

targets=$(find * -name '*_test.go' -exec grep -HEo '^func Fuzz[A-Za-z0-9_]+' {} + | sort -u)
[ -n "$targets" ] || { echo "fuzz: no fuzz target found" >&2; exit 1; }

failed=""
while IFS=: read -r file func; do
	name=${func#func }
	dir=$(dirname "$file")
	echo "== $dir $name" >&2
	"$go" test "./$dir" -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 100x || failed="$failed $dir.$name"

	kept=$dir/testdata/fuzz/$name
	[ -d "$corpora/$module/$dir/$name" ] || continue
	mkdir -p "$kept"
	find "$corpora/$module/$dir/$name" -type f -size -16k | sort | while read -r input; do
		[ "$(find "$kept" -type f | wc -l)" -lt "$keep" ] || break
		cp -n "$input" "$kept/"
	done
done <<<"$targets"

[ -z "$failed" ] || { echo "fuzz: failed:$failed; the inputs are in their testdata/fuzz" >&2; exit 1; }
