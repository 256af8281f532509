#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# No operation takes many more instructions than when its limit was set: see instructions.limits.
set -u
folder=$(cd "${srcdir:-.}" && pwd) || exit 99
build=$(dirname "${SENNIT:-build/sennit}")
skip() { echo "skipped: $*"; exit 77; }

# The limits are of this processor's instructions, and the C library copies by other ones without AVX2.
[ "$(uname -m)" = x86_64 ] || skip "the limits are for x86_64"
grep -qw avx2 /proc/cpuinfo || skip "the processor has no AVX2"
export COUNT_OPERATIONS=$build/perf/count_operations
out=$(timeout 60 "$folder/perf/instructions" -l "$folder/tests/cli/instructions.limits" 2>&1)
status=$?
echo "$out"
[ $status -ne 77 ] || skip "$(tail -n 1 <<<"$out")"
exit $status
