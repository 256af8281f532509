#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh - builds the fuzzers with clang and runs each for a while; 77 (skipped) without clang.
# Usage: tests/fuzz/run.sh [RUNS]
set -eu
cd "$(dirname "$0")/../.."
top=$PWD
runs=${1:-20000}
clang=${CLANG:-clang}
command -v "$clang" >/dev/null || { echo "no clang: skipped"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sanitize="address,undefined -fno-sanitize-recover=undefined"
flags="-I$top -std=gnu11 -g -O1"
echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n); int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; (void)n; return 0; }' >"$work/probe.c"
# shellcheck disable=SC2086
$clang $flags -fsanitize=fuzzer,$sanitize "$work/probe.c" -o "$work/probe" 2>/dev/null || { echo "$clang has no libFuzzer: skipped"; exit 77; }

# Everything but the launchers, the calls and the folds, which have flags of their own.
sources=
for file in base/*.c transport/exchange_frame.c transport/handshake.c transport/s[ho]*.c transport/t*.c \
	transport/verbs_none.c \
	collectives/al*.c collectives/b*.c collectives/gather.c collectives/hierarchical.c collectives/plan.c \
	collectives/reduce*.c collectives/select.c; do
	sources="$sources $top/$file"
done
mkdir "$work/objects"
# shellcheck disable=SC2086
(cd "$work/objects" && $clang $flags -fsanitize=fuzzer-no-link,$sanitize -c $sources)
ar rc "$work/parts.a" "$work"/objects/*.o

mkdir "$work/corpus-settings"
printf 'allreduce:0-4K:doubling,allreduce:4K-:ring/slices=8,barrier:dissemination' >"$work/corpus-settings/seed"
# Receives (copied, folded) of announced, eager and early messages; a send that is asked for.
mkdir "$work/corpus-tcp_frames"
printf '\0\004\007\0\0\003\007\0\0\017\0\005\005\0\0\007\200\005\006\010\202\007\200\005\005\0\0\007' >"$work/corpus-tcp_frames/data"
printf '\0\004\007\001\0\003\007\0\0\017\0\005\005\0\0\007\200\005\006\010\202\007\200\005\005\0\0\007' >"$work/corpus-tcp_frames/fold"
printf '\0\004\005\001\0\002\005\0\0\007\0\002\005\0\202\007\004\005\001\007\0\005\005\0\0\007' >"$work/corpus-tcp_frames/eager"
printf '\0\006\007\0\017\0\004\007\0\0\017\017\017\006\007\0\017\0\007\007\001\0\007' >"$work/corpus-tcp_frames/send"
for name in address exchange_frame handshake settings tcp_frames ticket; do
	# shellcheck disable=SC2086
	$clang $flags -fsanitize=fuzzer,$sanitize "tests/fuzz/$name.c" "$work/parts.a" -o "$work/$name" -lcrypto -lpthread
	mkdir -p "$work/corpus-$name"
	SNT_LOG=0 "$work/$name" -runs="$runs" -max_total_time=60 -timeout=20 -len_control=0 -max_len=512 -seed=1 -artifact_prefix="${FUZZ_ARTIFACTS:-$work}/" "$work/corpus-$name" >"$work/$name.log" 2>&1 || {
		tail -40 "$work/$name.log"
		echo "$name: FAILED"
		exit 1
	}
	echo "$name: $runs runs, no finding"
done
