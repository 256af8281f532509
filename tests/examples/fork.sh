#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The fork example sums rightly on 1, 2, 4 and 5 ranks, and each rank says so.
set -u
examples=${EXAMPLES:-build/examples}

for ranks in 1 2 4 5; do
	out=$(timeout 120 "$examples/fork" $ranks) || { echo "fork $ranks: exit $?"; echo "$out"; exit 1; }
	got=$(grep -c "^rank [0-9]* of $ranks: [0-9 ]*$" <<<"$out")
	[ "$got" -eq $ranks ] || { echo "fork $ranks: $got lines are right"; echo "$out"; exit 1; }
done
