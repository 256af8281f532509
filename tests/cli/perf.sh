#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# sennit perf: every collective with 1, 2 and 3 ranks on each transport, types and folds, reports, bad usage.
set -u
sennit=${SENNIT:-build/sennit}
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }
folder=$(mktemp -d) || exit 99
trap 'rm -rf "$folder"' EXIT

bad=0
complain() {
	echo "$*"
	bad=1
}

# right ARGUMENT...: exits with 0, has rows, none of them wrong
right() {
	local status
	timeout 120 "$sennit" perf "$@" --timeout 20000 >"$folder/out" 2>"$folder/err"
	status=$?
	if [ $status -ne 0 ]; then
		complain "sennit perf $* exits with $status"
		grep -v '^#' "$folder/out" | awk '$NF != 0 && $NF != "-"' | head -5
		head -5 "$folder/err"
	elif ! grep -qv '^#' "$folder/out"; then
		complain "sennit perf $* shows no rows"
	fi
}

# usage PATTERN ARGUMENT...: exits with 2 and says PATTERN
usage() {
	local pattern=$1 status
	shift
	"$sennit" perf "$@" >"$folder/out" 2>"$folder/err"
	status=$?
	[ $status -eq 2 ] || complain "sennit perf $* exits with $status, not 2"
	grep -q -- "$pattern" "$folder/err" || complain "sennit perf $* does not say '$pattern': $(cat "$folder/err")"
}

# ucx where its library is installed, over each of the ways UCX has on every machine
ucx=
if [ -z "${NO_UCX-}" ] && "$sennit" info | grep -q '^ucx  *libucp'; then ucx=ucx; fi
for ranks in 1 2 3; do
	for transport in shm tcp $ucx; do
		right all --ranks $ranks --transport "$transport" --max 4K --iterations 3 --warmup 1
		right all --ranks $ranks --transport "$transport" --max 4K --iterations 3 --warmup 1 --in-place
	done
done
right all --ranks 2 --sizes 0,1,100K,1M --iterations 3 --warmup 1
for tls in ${ucx:+tcp posix}; do
	UCX_TLS=$tls right all --ranks 2 --transport ucx --sizes 0,1,100K,1M --iterations 3 --warmup 1
done
for transport in shm tcp; do
	right latency --ranks 3 --transport $transport --sizes 0,8,100K --iterations 3 --warmup 1
	right bandwidth --ranks 2 --transport $transport --sizes 0,8,100K,40M --iterations 1 --warmup 0 --shared
done
right all --ranks 3 --sizes 5,333,100001 --type uint8 --op bxor --root 2 --iterations 3 --warmup 0

for type in int8 int16 int32 int64 uint8 uint16 uint32 uint64; do
	for op in sum product min max average band bor bxor land lor lxor; do
		right allreduce --ranks 2 --sizes 8,1000 --type $type --op $op --iterations 2 --warmup 0
	done
done
for type in float16 bfloat16 float32 float64; do
	for op in sum product min max average; do
		right reduce_scatter --ranks 2 --sizes 8,1000 --type $type --op $op --iterations 2 --warmup 0
	done
done

right allreduce --ranks 2 --sizes 8,4K --seconds 0.02 --no-check --no-pin --json "$folder/json" --csv "$folder/csv"
grep -q '"schema": "sennit-report-1"' "$folder/json" || complain "the JSON report has no schema"
grep -q '"collective": "allreduce", "bytes": 4096, "count": 1024' "$folder/json" || complain "the JSON report lacks a row"
if command -v python3 >/dev/null; then
	python3 -m json.tool "$folder/json" >/dev/null || complain "the JSON report is no JSON"
fi
[ "$(grep -vc '^#' "$folder/csv")" -eq 3 ] || complain "the CSV report has not a head and two rows"
"$sennit" perf barrier --ranks 1 --json "$folder/none/json" >/dev/null 2>"$folder/err"
[ $? -eq 1 ] || complain "a report that cannot be written is no failure"

# Every rank finds the same fault, and nobody wants to read it more than once.
"$sennit" perf allreduce --ranks 3 --algorithm nonsense >/dev/null 2>"$folder/err"
[ $? -eq 1 ] || complain "an unknown algorithm is no failure"
[ "$(grep -c "unknown algorithm 'nonsense'" "$folder/err")" -eq 1 ] ||
	complain "an error is not said once: $(cat "$folder/err")"
SNT_LOG=0 "$sennit" perf allreduce --ranks 3 --algorithm nonsense >/dev/null 2>"$folder/err"
[ "$(grep -c "unknown algorithm 'nonsense'" "$folder/err")" -eq 1 ] ||
	complain "without a log an error is not said once: $(cat "$folder/err")"
for transport in shm tcp; do
	right all --ranks 2 --transport $transport --sizes 8,100K --overlap --iterations 3 --warmup 1
done
right allreduce --ranks 2 --sizes 1M --overlap --asleep --tests 0 --iterations 3 --csv "$folder/csv"
grep -q ',true$' "$folder/csv" || complain "the CSV report does not say that the computation slept"
right reduce_scatter --ranks 3 --sizes 4K --overlap --tests 7 --seconds 0.02 --json "$folder/json" --csv "$folder/csv"
grep -q '"tests": 7, "compute_us": ' "$folder/json" || complain "the JSON report lacks the overlap"
# What is hidden follows from the three times, and the two that have to be there are.
awk -F, '/^#/ { next } !column["bytes"] { for (i = 1; i <= NF; i++) column[$i] = i; next }
	{
		alone = $column["median_us"]; compute = $column["compute_us"]; total = $column["total_us"]
		hidden = 100 * (1 - (total - compute) / alone)
		off = $column["overlap_percent"] - (hidden > 0 ? hidden : 0)
		if (alone > 0 && compute > 0 && total > 0 && $column["tests"] == 7 && off * off < 0.1) good++
	}
	END { exit good != 1 }' "$folder/csv" || complain "the CSV report has no sound overlap: $(tail -1 "$folder/csv")"

usage "which collective" --ranks 2
usage "--tests needs --overlap" allreduce --tests 3
usage "--asleep needs --overlap" allreduce --asleep
usage "'nonsense' is no collective" nonsense
usage "one collective" allreduce reduce
usage "no such option: --nonsense" allreduce --nonsense
usage "needs a value" allreduce --ranks
usage "not between" allreduce --ranks 0
usage "no whole number" allreduce --ranks two
usage "no number of bytes" allreduce --min 8X
usage "greater than" allreduce --min 8K --max 4K
usage "no list of" allreduce --sizes 8,,9
usage "is none of" allreduce --type float31
usage "takes integers only" allreduce --type float32 --op bxor
usage "no rank of" broadcast --ranks 2 --root 2
usage "no number of seconds" allreduce --seconds never
usage "two ranks" sendrecv --ranks 1
usage "two ranks" latency --ranks 1
usage "takes a collective" bandwidth --ranks 2 --overlap
exit $bad
