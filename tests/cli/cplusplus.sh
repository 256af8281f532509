#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The public header, and the options' initialiser, pass C++ compilers without a warning; nothing internal is in it.
set -eu
cd "${srcdir:-.}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/program.cc" <<'END'
#include "include/sennit.h"
int main()
{
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	static const struct snt_team_options same = SNT_TEAM_OPTIONS;
	struct snt_team *team;
	if (options.size != same.size || snt_team_create(&options, &team))
		return 1;
	snt_team_destroy(team);
	return 0;
}
END

tried=0
for compiler in g++ clang++; do
	command -v $compiler >/dev/null || continue
	tried=1
	for standard in c++11 c++17 c++20; do
		$compiler -std=$standard -Wall -Wextra -Wpedantic -Werror -I. -fsyntax-only "$work/program.cc" ||
			{ echo "$compiler -std=$standard complains"; exit 1; }
	done
done
if grep -nE '\bSNTI_|\bSNT_AGAIN\b' include/sennit.h; then
	echo "^ is internal"
	exit 1
fi
[ $tried = 1 ] || { echo "skipped: no C++ compiler (package g++)"; exit 77; }
