#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Every setting of the table in base/ is described in sennit(7).
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
exit $bad
