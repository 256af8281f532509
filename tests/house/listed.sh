#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Every source, test script and manual page stands in its folder's Makefile.am.
set -u
cd "${srcdir:-.}" || exit 99

bad=0
while read -r file; do
	folder=${file%%/*}
	path=${file#*/}
	bare=${path%.c}
	if ! grep -qE "%reldir%/(${path//./\\.}|${bare//./\\.})( |\$)" "$folder/Makefile.am" 2>/dev/null; then
		echo "$file is missing in $folder/Makefile.am"
		bad=1
	fi
done < <(find include base transport topology collectives plugins perf tools tests examples docs \
	-type f \( -name '*.[ch]' -o -name '*.sh' -o -name '*.[1-8]' \) 2>/dev/null | sort)
exit $bad
