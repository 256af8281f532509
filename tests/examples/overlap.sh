#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The overlap example runs to its end and prints its three times.
set -u
examples=${EXAMPLES:-build/examples}

out=$(timeout 120 "$examples/overlap") || { echo "overlap: exit $?"; echo "$out"; exit 1; }
echo "$out"
number='[0-9]+\.[0-9]+ ms'
grep -qE "^allreduce alone $number, compute alone $number, both $number$" <<<"$out"
