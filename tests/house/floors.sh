#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A file includes only from lower floors or its own folder, and names what it includes from the
# root. One door: perf/ may see tools/command.h, where the subcommands' entries are declared.
set -u
cd "${srcdir:-.}" || exit 99

declare -A floor=([include]=1 [base]=2 [transport]=3 [topology]=3 [collectives]=4
	[plugins]=5 [perf]=5 [tools]=5 [examples]=5 [tests]=6)
generated=' revision.h '
bad=0

complain() {
	echo "$1:$2: $3"
	bad=1
}

while IFS=: read -r file line text; do
	path=$(sed -E 's/^[^"]*"([^"]*)".*/\1/' <<<"$text")
	own=${file%%/*}
	other=${path%%/*}
	case $generated in *" $path "*) continue ;; esac
	[ "$path" = tools/command.h ] && [ "$own" = perf ] && continue
	if [ "$path" = "$other" ] || [ -z "${floor[$other]-}" ]; then
		complain "$file" "$line" "'$path' is not named from the root"
	elif [ ! -e "$path" ]; then
		complain "$file" "$line" "'$path' does not exist"
	elif [ "$own" = examples ] && [ "$other" != include ]; then
		complain "$file" "$line" "an example includes only the public header, not '$path'"
	elif [ "$own" != "$other" ] && [ "${floor[$other]}" -ge "${floor[$own]}" ]; then
		complain "$file" "$line" "$own/ does not include from $other/ ('$path')"
	fi
done < <(grep -rnE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "${!floor[@]}" 2>/dev/null)
exit $bad
