#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Every setting of the table in base/ is described in sennit(7), with the table's own kind, default and words.
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

# "NAME|kind|default|meaning" of each row of the table, then of each item of the page
rows() {
	sed -nE '/^\tX\(/ { N; s/ *\\\n */ /
		s/^\tX\([a-z_]+, +([a-z]+), +"(SNT_[A-Z0-9_]+)", +"([^"]*)",[^"]*"([^"]*)"\).*/\2|\1|\3|\4/p }' base/settings.h |
		sed -e 's/|number|/|a number|/' -e 's/|size|/|bytes|/' -e 's/||/|empty|/'
}
items() {
	sed -nE '/^\.It Ev SNT_/ { N; s/\.It Ev ([A-Z0-9_]+) Pq ([a-z ]+); default ([^\n]*)\n/\1|\2|\3|/p }' $page
}
[ "$(rows | wc -l)" -eq "${#names[@]}" ] || { echo "the table in base/settings.h cannot be read: $(rows | wc -l) rows"; exit 99; }
diff <(rows) <(items) || { echo "base/settings.h (<) and $page (>) differ"; bad=1; }
exit $bad
