#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Every setting of the table in base/ is described in sennit(7), with the table's own kind, bounds, default and words.
set -u
cd "${srcdir:-.}" || exit 99

page=docs/man/sennit.7
if [ ! -e $page ]; then
	echo "skipped: $page is not written yet"
	exit 77
fi

mapfile -t names < <(grep -ohE '"SNT_[A-Z0-9_]*[A-Z0-9]"' base/settings.h base/settings.c 2>/dev/null |
	tr -d '"' | sort -u)
[ "${#names[@]}" -gt 0 ] || { echo "no setting found in base/settings.[ch]"; exit 99; }

bad=0
for name in "${names[@]}"; do
	# roff may write an underscore as \_
	if ! sed 's/\\_/_/g' $page | grep -qE "(^|[^A-Z0-9_])$name([^A-Z0-9_]|\$)"; then
		echo "$page does not describe $name"
		bad=1
	fi
done

# short BYTES: in the largest unit that leaves it whole
short() {
	local bytes=$1 unit
	for unit in '' K M G; do
		if [ "$bytes" -eq 0 ] || [ $((bytes % 1024)) -ne 0 ] || [ "$unit" = G ]; then break; fi
		bytes=$((bytes / 1024))
	done
	echo "$bytes$unit"
}

# range KIND LEAST MOST: as the page says it; the table's bounds are C
range() {
	local kind=$1 least most
	[ "$kind" != text ] || { echo text; return; }
	least=$(($2)) most=$((${3/INT64_MAX/9223372036854775807}))
	[ "$kind" = number ] || { least=$(short $least); most=$(short $most); }
	[ "$most" != 9223372036854775807 ] || most=
	echo "${kind/#size/bytes} from $least${most:+ to $most}" | sed 's/^number/a number/'
}

# "NAME|kind and range|default|meaning" of each row of the table, then of each item of the page
rows() {
	local name kind least most standard meaning
	sed -nE '/^\tX\(/ { N; s/ *\\\n */ /
		s/^\tX\([a-z_]+, +([a-z]+), +"(SNT_[A-Z0-9_]+)", +"([^"]*)", *([^,]+), *([^,]+),[ \t]*"([^"]*)"\).*/\2|\1|\4|\5|\3|\6/p }' base/settings.h |
		while IFS='|' read -r name kind least most standard meaning; do
			echo "$name|$(range "$kind" "$least" "$most")|${standard:-empty}|$meaning"
		done
}
items() {
	sed -nE '/^\.It Ev SNT_/ { N; s/\.It Ev ([A-Z0-9_]+) Pq ([a-zA-Z0-9 ]+); default ([^\n]*)\n/\1|\2|\3|/p }' $page
}
[ "$(rows | wc -l)" -eq "${#names[@]}" ] || { echo "the table in base/settings.h cannot be read: $(rows | wc -l) rows"; exit 99; }
diff <(rows) <(items) || { echo "base/settings.h (<) and $page (>) differ"; bad=1; }
exit $bad
