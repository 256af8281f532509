#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# No notes to oneself, and nothing that is true only on one machine.
set -u
cd "${srcdir:-.}" || exit 99

mapfile -t files < <({
	find include base transport topology collectives plugins perf tools tests examples docs \
		-type f \( -name '*.[ch]' -o -name '*.sh' -o -name '*.am' -o -name '*.md' \
		-o -name '*.[1-8]' -o -name '*.py' -o -name '*.txt' \)
	find m4 -name 'snt_*.m4'
	find .ci -type f
	find . -maxdepth 1 -type f \( -name '*.md' -o -name '*.am' -o -name '*.ac' -o -name '*.in' \
		-o -name '*.map' -o -name '*.sh' -o -name 'packages.txt' -o -name quickstart \) \
		! -name Makefile.in
} 2>/dev/null | sort)
[ "${#files[@]}" -gt 0 ] || { echo "no files found"; exit 99; }

bad=0
# The bracketed letters keep this file from finding itself.
if grep -nwE 'TOD[O]|FIXM[E]|XX[X]' "${files[@]}"; then
	echo "^ do it, or write it into an issue"
	bad=1
fi
if grep -nE '(^|[^A-Za-z0-9_.*>/-])/(wor[k]|hom[e]|roo[t]|User[s])(/|[^A-Za-z0-9_]|$)' "${files[@]}"; then
	echo "^ these paths exist on one machine only"
	bad=1
fi
exit $bad
