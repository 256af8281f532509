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
for file in base/*.c transport/exchange_frame.c transport/gpu.c transport/handshake.c transport/order.c transport/rails*.c transport/s[ho]*.c transport/t*.c transport/ucx_absent.c \
	collectives/al*.c collectives/answers.c collectives/b*.c collectives/direct.c collectives/gather.c collectives/hierarchical.c collectives/plan.c \
	collectives/reduce*.c collectives/select.c plugins/nccl/tuner_rules.c; do
	sources="$sources $top/$file"
done
mkdir "$work/objects"
# shellcheck disable=SC2086
(cd "$work/objects" && $clang $flags -fsanitize=fuzzer-no-link,$sanitize -c $sources)
ar rc "$work/parts.a" "$work"/objects/*.o
# shellcheck disable=SC2086
$clang $flags -c transport/verbs_none.c -o "$work/none.o"

mkdir "$work/corpus-settings"
printf 'allreduce:0-4K:doubling,allreduce:4K-:ring/slices=8,barrier:dissemination' >"$work/corpus-settings/seed"
mkdir "$work/corpus-tuning"
printf 'allreduce,0,64K,tree,ll,-1,-1,-1\nbroadcast, 1 ,-1,ring,simple,16,2,16,1,0 # two\n' >"$work/corpus-tuning/rules"
# Receives (copied, folded) of announced, eager and early messages; a send that is asked for.
mkdir "$work/corpus-tcp_frames"
printf '\0\004\007\0\0\003\007\0\0\017\0\005\005\0\0\007\200\005\006\010\202\007\200\005\005\0\0\007' >"$work/corpus-tcp_frames/data"
printf '\0\004\007\001\0\003\007\0\0\017\0\005\005\0\0\007\200\005\006\010\202\007\200\005\005\0\0\007' >"$work/corpus-tcp_frames/fold"
printf '\0\004\005\001\0\002\005\0\0\007\0\002\005\0\202\007\004\005\001\007\0\005\005\0\0\007' >"$work/corpus-tcp_frames/eager"
printf '\0\006\007\0\017\0\004\007\0\0\017\017\017\006\007\0\017\0\007\007\001\0\007' >"$work/corpus-tcp_frames/send"
fuzz() {
	name=$1 runs=$2 parts=$3
	# shellcheck disable=SC2086
	$clang $flags -fsanitize=fuzzer,$sanitize "tests/fuzz/$name.c" "$parts" "$work/parts.a" -o "$work/$name" -lcrypto -lpthread
	mkdir -p "$work/corpus-$name"
	SNT_LOG=0 "$work/$name" -runs="$runs" -max_total_time=60 -timeout=20 -len_control=0 -max_len=512 -seed=1 -artifact_prefix="${FUZZ_ARTIFACTS:-$work}/" "$work/corpus-$name" >"$work/$name.log" 2>&1 || {
		tail -40 "$work/$name.log"
		echo "$name: FAILED"
		exit 1
	}
	echo "$name: $runs runs, no finding"
}
for name in address exchange_frame handshake settings tcp_frames ticket tuning; do
	fuzz "$name" "$runs" "$work/none.o"
done

# Over the mock of libibverbs, as a library; connections take their time to set up.
echo '#include <infiniband/verbs.h>' | $clang -E - >/dev/null 2>&1 || exit 0
mkdir "$work/verbs"
# shellcheck disable=SC2086
(cd "$work/verbs" && find "$top"/transport -name 'verbs*.c' ! -name verbs_none.c ! -name verbs_cm.c \
	-exec $clang $flags -fsanitize=fuzzer-no-link,$sanitize -c {} +)
ar rc "$work/verbs.a" "$work"/verbs/*.o
# shellcheck disable=SC2086
$clang $flags -shared -fPIC -Wl,-soname,libibverbs.so.1 "$top"/tests/mock_verbs/mock_*.c -o "$work/libibverbs.so.1"
export LD_LIBRARY_PATH="$work"
fuzz verbs_frames $((runs / 20)) "$work/verbs.a"
