#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The virtual machine of tests/rdma/vm: status, output and files of its command, its end, and real
# verbs between two of its devices, also with each of the faults.
# shellcheck disable=SC2317 # functions are called by a name in a variable
set -u
rdma=$(cd "$(dirname "$0")" && pwd -P)
vm=$rdma/vm
bad=0

complain() {
	echo "rig: $*"
	bad=1
}

# expect STATUS COMMAND...: its output goes to stdout and stderr in $work.
expect() {
	local wanted=$1 status=0
	shift
	"$@" >"$work/stdout" 2>"$work/stderr" || status=$?
	[ "$status" -eq "$wanted" ] && return
	complain "status $status instead of $wanted: $*"
	tail -n 30 "$work/stdout" "$work/stderr"
	return 1
}

# ---- in the machine

check() { "$@" >/tmp/check 2>&1 || { complain "failed: $*"; cat /tmp/check; }; }
fault() { "$rdma/fault" "$@"; }

pingpong() { "$rdma/pair" ibv_rc_pingpong -g 1 "$@"; }
write_bandwidth() { "$rdma/pair" ib_write_bw -x 1 -F -m 4096 -s 65536 -n "$1"; }

crossed() { cat /sys/class/net/port0/statistics/tx_packets; }
state() { cat /sys/class/infiniband/rxe0/ports/1/state; }

becomes() {
	local tries
	for ((tries = 0; tries < 100; tries++)); do
		[ "$(state)" != "$1" ] || return 0
		sleep 0.1
	done
	complain "rxe0 is $(state) instead of $1"
}

verbs() {
	local before
	check ibv_devinfo -d rxe1
	before=$(crossed)
	check pingpong
	check write_bandwidth 200
	# 4 KiB a packet
	[ $(($(crossed) - before)) -ge 3200 ] || complain "only $(($(crossed) - before)) packets crossed the cable"
}

faults() {
	local status=0
	check fault link rxe0 loss 5%
	check write_bandwidth 100
	tc -s qdisc show dev port0 | grep -q 'dropped [1-9]' || complain "5 % loss and nothing was lost"
	check fault clear rxe0

	check fault unplug rxe0
	becomes '1: DOWN'
	check fault plug rxe0
	becomes '4: ACTIVE'
	check fault down rxe0
	becomes '1: DOWN'
	check fault up rxe0
	becomes '4: ACTIVE'
	check pingpong -n 10

	fault memlock 65536 timeout 20 ibv_rc_pingpong -d rxe0 -g 1 -s 1048576 >/tmp/memlock 2>&1 &&
		complain "1 MiB was registered under a limit of 64 KiB"
	grep -q "register MR" /tmp/memlock || complain "the limit gave: $(cat /tmp/memlock)"
	fault kill 1 bash -c 'sleep 901 & wait' || status=$?
	[ $status -eq 137 ] || complain "what was killed gave status $status"
	! pgrep -f 'sleep 90[1]' >/dev/null || complain "what it had started lives on"
}

# ---- outside

# What the machine's command sees, and what of it comes back.
# shellcheck disable=SC2016 # for the shell in the machine
command_and_output() {
	export RIG_TEST="a 'quoted' \"value\""
	mkdir "$work/kept"
	expect 3 "$vm" --timeout 240 --devices 0 --accel kvm,tcg --write "$work/kept" -- bash -c '
		printf "%s|" "$PWD" "$RIG_TEST" "$@"
		echo
		seq 1 100000
		echo complaint >&2
		echo kept >'"$work/kept/file"'
		echo lost >'"$work/lost"' || echo "cannot write"
		[ -z "$(cat)" ] || echo "there is input"
		echo done >/dev/stdout
		sleep 902 &
		exit 3' argument0 'two words' '*' '' || return
	diff <(printf '%s|' "$PWD" "$RIG_TEST" 'two words' '*' ''; echo; seq 1 100000; echo 'done') "$work/stdout" |
		head -n 10 | grep . && complain "output (>) is not what was to come (<)"
	grep -v '^rdma/vm: KVM' "$work/stderr" | diff - <(echo complaint) || complain "wrong output on stderr"
	[ "$(cat "$work/kept/file")" = kept ] || complain "what was written in a --write folder is not there"
	[ ! -e "$work/lost" ] || complain "what was written elsewhere stayed"
}

# left: what is still there of a machine whose files were below $work/tmp.
left() { pgrep -f "$work/tm[p]" || ls -A "$work/tmp"; }

the_end() {
	mkdir "$work/tmp"
	export TMPDIR=$work/tmp
	expect 124 "$vm" --timeout 4 -- sleep 1000
	grep -q 'ended after 4 s' "$work/stderr" || complain "nothing said of the time limit"
	[ -z "$(left)" ] || complain "left after the time limit: $(left)"
	"$vm" --timeout 60 -- sleep 1000 >/dev/null 2>&1 &
	local one=$!
	until pgrep -f "qemu.*$work/tm[p]" >/dev/null || ! kill -0 "$one"; do sleep 0.1; done
	kill "$one"
	wait "$one"
	[ -z "$(left)" ] || complain "left after SIGTERM: $(left)"
	unset TMPDIR
}

wrong_use() {
	expect 2 "$vm" --no-such-option -- true
	expect 2 "$vm" --cpus many -- true
	expect 2 "$vm"
	expect 77 "$vm" --kernel "$work" -- true
	tail -n 1 "$work/stderr" | grep -q 'missing: .*--get-kernel' || complain "the missing kernel is not named"
}

rdma_between_devices() {
	expect 0 "$vm" --timeout 300 -- bash "$0" inside || return
	cat "$work/stdout" "$work/stderr"
}

if [ "${1-}" = inside ]; then
	verbs
	faults
	exit $bad
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for need in ibv_devinfo:ibverbs-utils ib_write_bw:perftest; do
	command -v "${need%:*}" >/dev/null || { echo "skipped: no ${need%:*} (package ${need#*:})"; exit 77; }
done
"$vm" --timeout 120 --devices 0 -- true 2>"$work/stderr"
if [ $? -eq 77 ]; then
	tail -n 1 "$work/stderr"
	exit 77
fi
for part in wrong_use command_and_output the_end rdma_between_devices; do
	start=$SECONDS
	$part
	echo "rig: $part: $((SECONDS - start)) s"
done
exit $bad
