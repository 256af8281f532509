#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh - builds the fuzzers with clang and runs each for a while; 77 (skipped) without clang.
# Usage: tests/fuzz/run.sh [RUNS]
set -eu
cd "$(dirname "$0")/../.."
runs=${1:-20000}
clang=${CLANG:-clang}
command -v "$clang" >/dev/null || { echo "no clang: skipped"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-I. -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined"
echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n); int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; (void)n; return 0; }' >"$work/probe.c"
# shellcheck disable=SC2086
$clang $flags "$work/probe.c" -o "$work/probe" 2>/dev/null || { echo "$clang has no libFuzzer: skipped"; exit 77; }
sources="transport/handshake.c transport/ticket.c transport/socket.c transport/exchange_frame.c
	base/log.c base/random.c base/clock.c base/settings.c base/status.c"
for name in handshake ticket exchange_frame; do
	# shellcheck disable=SC2086
	$clang $flags "tests/fuzz/$name.c" $sources -o "$work/$name" -lcrypto -lpthread
	mkdir -p "$work/corpus-$name"
	SNT_LOG=0 "$work/$name" -runs="$runs" -max_total_time=60 -seed=1 -artifact_prefix="${FUZZ_ARTIFACTS:-$work}/" "$work/corpus-$name" >"$work/$name.log" 2>&1 || {
		tail -40 "$work/$name.log"
		echo "$name: FAILED"
		exit 1
	}
	echo "$name: $runs runs, no finding"
done
