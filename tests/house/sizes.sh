#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Functions have at most 60 lines, files at most 700.
set -u
cd "${srcdir:-.}" || exit 99

most_function=60
most_file=700
bad=0

mapfile -t files < <(find include base transport topology collectives plugins perf tools tests \
	examples -name '*.[ch]' 2>/dev/null | sort)
[ "${#files[@]}" -gt 0 ] || { echo "no sources found"; exit 99; }

for file in "${files[@]}"; do
	lines=$(wc -l <"$file")
	if [ "$lines" -gt $most_file ]; then
		echo "$file: $lines lines, at most $most_file are allowed"
		bad=1
	fi
done

if ! ctags --version 2>/dev/null | grep -q 'Universal Ctags'; then
	[ $bad -eq 0 ] || exit 1
	echo "skipped: universal-ctags is not installed, so functions cannot be measured"
	exit 77
fi

ctags -f - --languages=C --langmap=C:.c.h --kinds-C=f --fields=+ne "${files[@]}" 2>/dev/null |
	awk -F '\t' -v most=$most_function '
	{
		first = last = 0
		for (i = 4; i <= NF; i++) {
			if ($i ~ /^line:/) first = substr($i, 6)
			if ($i ~ /^end:/) last = substr($i, 5)
		}
		if (first && last && last - first + 1 > most) {
			printf "%s:%d: %s has %d lines, at most %d are allowed\n", \
				$2, first, $1, last - first + 1, most
			bad = 1
		}
	}
	END { exit bad }' || bad=1
exit $bad
