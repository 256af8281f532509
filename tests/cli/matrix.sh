#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# sennit perf --check over every collective and 1 to 9 ranks, and over every type with every op it has among 3 ranks:
# on both transports, in and out of place with MATRIX=whole; otherwise place and transport take turns.
set -u
sennit=${SENNIT:-build/sennit}
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }
out=$(mktemp) || exit 99
trap 'rm -f "$out" "$out.err"' EXIT

# Nothing, one element, odd numbers of elements, one above what is sent without asking; with the lower limit the last
# one's ninth is above it too.
lengths=0,4,1004,20004,300004
limit=16K
type_lengths=0,1,1001
bad=0 runs=0

# right SIZES ROWS ARGUMENT...: so many rows, every one without a wrong element
right() {
	local sizes=$1 rows=$2 status
	shift 2
	runs=$((runs + 1))
	timeout 60 "$sennit" perf all --check --sizes "$sizes" --iterations 1 --warmup 0 --timeout 20000 "$@" >"$out" 2>"$out.err"
	status=$?
	if [ $status -ne 0 ] || ! awk -v rows="$rows" '/^ *[0-9]/ { seen++; bad += $NF != "0" && $NF != "-"
			if ($NF == "-") unchecked++ } END { exit seen != rows || bad || unchecked > 1 }' "$out"; then
		echo "sennit perf all --sizes $sizes $* exits with $status, not with $rows right rows:"
		awk '/^# [a-z]/ { name = $0 } /^ *[0-9]/ && $NF != "0" && $NF != "-" { print name ":" $0 }' "$out" | head -5
		head -5 "$out.err"
		bad=1
	fi
}

# rows RANKS SIZES: a barrier has one row; one rank sends nothing
rows() {
	local commas=${2//[^,]/}
	echo $((($1 > 1 ? 9 : 8) * (${#commas} + 1) + 1))
}

# all RANKS TRANSPORT PLACE: every collective; in place with the lower limit
all() {
	local root=$(($1 / 2)) options=()
	[ "$3" = out ] || { root=$(($1 - 1)); options=(--in-place); export SNT_SHM_EAGER=$limit SNT_TCP_EAGER=$limit; }
	right $lengths "$(rows "$1" $lengths)" --ranks "$1" --root $root --transport "$2" "${options[@]}"
	unset SNT_SHM_EAGER SNT_TCP_EAGER
}

places=(out in)
for ranks in 1 2 3 4 5 6 7 8 9; do
	all $ranks shm "${places[ranks % 2]}"
	all $ranks tcp "${places[(ranks + 1) % 2]}"
	if [ "${MATRIX-}" = whole ]; then
		all $ranks shm "${places[(ranks + 1) % 2]}"
		all $ranks tcp "${places[ranks % 2]}"
	fi
done

ways=('shm' 'tcp --in-place' 'tcp' 'shm --in-place')
[ "${MATRIX-}" = whole ] && each=4 || each=1
turn=0
for type in int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64; do
	ops='sum product min max average band bor bxor land lor lxor'
	[ "${type/float/}" = "$type" ] || ops=${ops% band*}
	for op in $ops; do
		for ((i = 0; i < each; i++)); do
			# shellcheck disable=SC2086 # two words
			right $type_lengths "$(rows 3 $type_lengths)" --ranks 3 --type $type --op $op --transport ${ways[turn++ % 4]}
		done
	done
done
echo "$runs runs"
exit $bad
