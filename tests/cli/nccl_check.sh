#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The plugin for NCCL passes every scenario with every version of the interface, needs nothing but libc and
# libcrypto, and exports its tables alone; nccl-check finds what is wrong with others.
set -u
sennit=${SENNIT:-build/sennit}
plugin=$(dirname "$sennit")/.libs/libnccl-net-sennit.so
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }
[ -e "$plugin" ] || { echo "$plugin is not built"; exit 99; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export NCCL_SOCKET_IFNAME=lo SNT_NCCL_TRANSPORTS=tcp
bad=0
complain() {
	echo "$*"
	bad=1
}

exported=$(nm -D --defined-only "$plugin" | awk '{ print $3 }' | sort -V | paste -sd' ')
expected=$(printf '%s\n' ncclNetPlugin_v{6,7,8,9,10,11,12} nccl{Profiler,TunerPlugin}_v{4,5,6} | sort -V | paste -sd' ')
[ "$exported" = "$expected" ] || complain "exported: $exported"
readelf -dW "$plugin" | grep -q NODELETE || complain "not linked with nodelete"
if ! nm "$plugin" | grep -qE '__(asan|tsan|ubsan)_'; then
	needed=$(readelf -dW "$plugin" | sed -nE 's/.*NEEDED.*\[(.*)\]/\1/p' | grep -vE '^(libc|libcrypto|ld-linux.*)\.so')
	[ -z "$needed" ] || complain "needs $needed"
fi

"$sennit" nccl-check --plugin "$plugin" --schedules 60 --seed "${SEED:-1}" >"$work/table" 2>&1 ||
	complain "$(cat "$work/table")"
grep -qE '^126 of 126 passed' "$work/table" || complain "the table is not whole: $(cat "$work/table")"

# As profiler and as tuner
for kind in profiler:30 tuner:12; do
	count=${kind#*:}
	"$sennit" nccl-check --plugin "$plugin" --kind "${kind%:*}" >"$work/table" 2>&1 || complain "$(cat "$work/table")"
	grep -qE "^$count of $count passed" "$work/table" || complain "the table is not whole: $(cat "$work/table")"
done

# How NCCL finds it: by what stands between libnccl-net- and .so, in the library path
LD_LIBRARY_PATH=$(dirname "$plugin") "$sennit" nccl-check --plugin sennit --scenario devices >"$work/by-name" 2>&1 ||
	complain "not found by name: $(cat "$work/by-name")"

# Measured beside all that there is: 2 figures, and of each a multiple for the 4 others
"$sennit" nccl-check --plugin "$plugin" --measure --size 65536 --rounds 1 --depth 4 --channels 2 \
	--beside "tcp,sockets,sockets:2x3,$plugin" >"$work/measured" 2>&1 || complain "$(cat "$work/measured")"
[ "$(awk '!/^#/ { print NF }' "$work/measured")" = 11 ] || complain "measured: $(cat "$work/measured")"

# fails WHAT PATTERN ARGUMENT...: exit code 1, and a sentence that fits the pattern
fails() {
	local what=$1 pattern=$2 text status
	shift 2
	text=$("$sennit" nccl-check "$@" 2>&1)
	status=$?
	[ $status -eq 1 ] || complain "$what: exit code $status"
	grep -qE "$pattern" <<<"$text" || complain "$what: $text"
}
fails "no such plugin" 'cannot open' --plugin nowhere --scenario devices
fails "another library" 'no version' --plugin "$(dirname "$sennit")/.libs/libsennit.so"
fails "no such plugin beside" 'nowhere: .*cannot open' --plugin "$plugin" --measure --beside nowhere
fails "no helpers" 'not sockets:THREADSxSOCKETS' --plugin "$plugin" --measure --beside sockets:0x1
SNT_NCCL_TRANSPORTS=shm fails "no network" "has no transport between hosts" --plugin "$plugin" --version 11 --scenario devices
NCCL_SOCKET_IFNAME=nothing fails "no interface" "NCCL_SOCKET_IFNAME 'nothing'" --plugin "$plugin" --version 8 --scenario devices
for arguments in "" "--plugin x --scenario nonsense" "--plugin x --version 5" "--plugin x --depth 0" "--plugin x --rounds 0" "--plugin x --kind gin" \
	"--plugin x --kind tuner --version 8" "--plugin x --version 4" "--plugin x --kind tuner --measure" "--nonsense" \
	"--plugin x --device 1," "--plugin x --traffic-class 256"; do
	# shellcheck disable=SC2086 # several words
	"$sennit" nccl-check $arguments >/dev/null 2>&1
	[ $? -eq 2 ] || complain "nccl-check $arguments: not exit code 2"
done
exit $bad
