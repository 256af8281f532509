#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A link that goes down in the middle of an operation: every rank ends in time, says who is missing, leaves nothing.
# shellcheck source=tests/hosts/library.sh
. "$(dirname "$0")/library.sh"
hosts 4

# lose HOSTS RANKS HOST COMMAND...: the command takes the link of HOST away while an allreduce is under way
lose() {
	local hosts=$1 ranks=$2 lost=$3 rank
	shift 3
	start "$hosts" "$ranks" perf allreduce --sizes 4M --iterations 100000 --no-check --timeout 2000
	until grep -qs '^# times' "$work/out.0"; do sleep 0.1; done
	sleep 0.5
	"$@" || exit 99
	SECONDS=0
	wait
	# 2 s without a byte; TCP may take that long again to say that it gave up; a little to tell the others
	[ $SECONDS -le 6 ] || show "$*: $SECONDS s until all had ended"
	for ((rank = 0; rank < jobs_size; rank++)); do
		[ "$(cat "$work/status.$rank")" = 1 ] || show "$*: rank $rank ends with $(cat "$work/status.$rank")"
		if [ $((rank / ranks)) = "$lost" ]; then
			said $rank 'rank [0-9]' || show "$*: rank $rank names nobody"
		else
			named $rank || show "$*: rank $rank does not name a rank of host $lost"
		fi
	done
	# Processes have ended; kernels may keep closing connections, but none that is established.
	grep -qs sennit /proc/[0-9]*/comm && show "$*: processes are left"
	for ((rank = 0; rank < hosts; rank++)); do
		[ -z "$(on $rank ss -Hntx state established)" ] || show "$*: sockets are left on host $rank"
	done
}

# named RANK: a rank of the lost host is named
named() {
	local peer
	for ((peer = lost * ranks; peer < (lost + 1) * ranks; peer++)); do
		said "$1" "rank $peer([^0-9]|\$)" && return
	done
	return 1
}

lose 2 1 1 ip -n h1 link set eth0 down
ip -n h1 link set eth0 up
lose 4 1 2 ip link set eth0h2 down
ip link set eth0h2 up
lose 2 2 1 ip link set eth0h1 nomaster
exit $bad
