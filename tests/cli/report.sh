#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The reports of sennit perf have the members that docs/report-schema.md lists, in its order and of its types.
set -u
sennit=${SENNIT:-build/sennit}
page=${srcdir:-.}/docs/report-schema.md
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }
folder=$(mktemp -d) || exit 99
trap 'rm -rf "$folder"' EXIT

bad=0
complain() {
	echo "$*"
	bad=1
}

# listed SECTION: "name type" of the table below that headline
# shellcheck disable=SC2016 # the backquotes are the page's
listed() {
	awk -v section="## $1" '/^## /{ inside = $0 == section } inside && /^\| `/' "$page" |
		sed -E 's/^\| `([a-z0-9_]+)` +\| ([a-z ]*[a-z]) +\|.*/\1 \2/'
}

# members: "name kind" of those of the objects on the input, one object a line
members() {
	grep -oE '"[a-z0-9_]+": ("[^"]*"|[a-z0-9.-]+)' | sed -E \
		-e 's/^"([a-z0-9_]+)": ".*/\1 string/' -e 's/^"([a-z0-9_]+)": (true|false)$/\1 boolean/' \
		-e 's/^"([a-z0-9_]+)": null$/\1 null/' -e 's/^"([a-z0-9_]+)": -?[0-9.]+$/\1 number/'
}

# same WHAT LISTED FOUND: names alike and in order, each kind one of the types
same() {
	local name kind types
	diff <(cut -d' ' -f1 <<<"$2") <(cut -d' ' -f1 <<<"$3") || complain "$1: the page (<) and the report (>) differ"
	while read -r name kind; do
		types=$(sed -n "s/^$name //p" <<<"$2")
		[[ " $types " == *" $kind "* ]] || complain "$1: $name is a $kind, not $types"
	done <<<"$3"
}

schema=$(grep -oE 'sennit-report-[0-9]+' "$page" | sort -u)
for arguments in "allreduce --sizes 8,1K --in-place" "barrier" "sendrecv --sizes 0,8 --no-check" \
	"broadcast --sizes 4K --overlap"; do
	rows=$(listed rows)
	[[ $arguments != *--overlap ]] || rows+=$'\n'$(listed "rows of --overlap")
	# shellcheck disable=SC2086 # several arguments
	timeout 60 "$sennit" perf $arguments --ranks 2 --iterations 3 --json "$folder/json" --csv "$folder/csv" \
		>"$folder/out" 2>&1 || complain "perf $arguments: $(cat "$folder/out")"
	grep -qF "{\"schema\": \"$schema\"," "$folder/json" || complain "the schema is not $schema"
	same "environment of $arguments" "$(listed environment)" \
		"$(sed -n '/^"environment"/,/^}/p' "$folder/json" | tail -n +2 | members)"
	while read -r row; do
		same "row of $arguments" "$rows" "$(members <<<"$row")"
	done < <(grep '"collective"' "$folder/json")
	diff <(listed environment | cut -d' ' -f1) <(sed -nE 's/^# ([a-z_]+): .*/\1/p' "$folder/csv") ||
		complain "the head of the CSV file of $arguments differs from the page"
	[ "$(cut -d" " -f1 <<<"$rows" | paste -sd,)" = "$(grep -v "^#" "$folder/csv" | head -1)" ] ||
		complain "the columns of the CSV file of $arguments differ from the page"
	awk -F, '/^#/ { next } !columns { columns = NF } NF != columns { exit 1 }' "$folder/csv" ||
		complain "a row of the CSV file of $arguments has another number of fields"
done
exit $bad
