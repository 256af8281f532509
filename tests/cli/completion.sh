#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The completion for bash offers what sennit has: commands, options, collectives, algorithms, types, folds.
set -u
sennit=${SENNIT:-build/sennit}
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }
# shellcheck disable=SC1091 # it is checked by itself
. "${srcdir:-.}/tools/completion.bash" || exit 99

bad=0
complain() {
	echo "$*"
	bad=1
}

# offers WORDS ARGUMENT...: what may stand for the last argument, in any order
offers() {
	local want got
	COMPREPLY=()
	COMP_WORDS=("$sennit" "${@:2}")
	COMP_CWORD=$(($# - 1))
	_sennit
	want=$(tr ' ' '\n' <<<"$1" | sort)
	got=$(printf '%s\n' "${COMPREPLY[@]}" | sort)
	[ "$want" = "$got" ] || complain "sennit ${*:2}: $(diff <(echo "$want") <(echo "$got") | grep '^[<>]' | paste -sd' ')"
}

# known OPTION: the values that perf names when it is given another one
known() {
	"$sennit" perf allreduce "$1" nonsense 2>&1 | sed -n 's/.* is none of //p'
}

listed=$("$sennit" --help | sed -nE 's/^  ([a-z][a-z-]*) .*/\1/p' | paste -sd' ')
offers "$listed help --help --version" ""
offers "perf" pe
offers "$listed" help ""
offers "--in-place --iterations" perf allreduce --i
offers "$("$sennit" perf --help | grep -oE '^  --[a-z-]+' | tr -d ' ' | paste -sd' ')" perf allreduce --
offers "--print" plan allreduce --p
offers "allreduce allgather alltoall all" perf al
offers "allreduce allgather alltoall" plan al
offers "sendrecv" perf se
offers "$("$sennit" plan allreduce | paste -sd' ')" perf allreduce --algorithm ""
offers "ring" plan allgather --algorithm r
offers "$(known --type)" perf allreduce --type ""
offers "$(known --op)" perf allreduce --op ""
offers "shm shm,tcp" perf allreduce --transport s
offers "" perf allreduce --ranks ""
offers "$("$sennit" nccl-check --list | awk '{ print $1 }' | paste -sd' ')" nccl-check --scenario ""
offers "4 5 6 8 9 10 11 12" nccl-check --version ""
offers "net profiler tuner" nccl-check --kind ""
offers "" nonsense -
exit $bad
