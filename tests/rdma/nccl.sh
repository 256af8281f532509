#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# NCCL's network over real verbs, between two software devices in the virtual machine of tests/rdma/vm: every scenario,
# the devices, the traffic class on the wire, and a link that goes down for good.
# Run in the build folder, or with its path in BUILD.
set -u
rdma=$(cd "$(dirname "$0")" && pwd -P)
build=${BUILD-$PWD}
bad=0

complain() {
	echo "nccl: $*"
	bad=1
}

# check NAME ARGUMENT...: nccl-check between the two devices, what it says in /tmp/NAME
check() {
	local name=$1
	shift
	timeout 120 ./sennit nccl-check --plugin .libs/libnccl-net-sennit.so --device 0,1 "$@" >"/tmp/$name" 2>&1
}

# uses DEVICES VARIABLE=VALUE...
uses() {
	local got
	got=$(env NCCL_DEBUG=INFO "${@:2}" ./sennit nccl-check --plugin .libs/libnccl-net-sennit.so --version 12 --threads \
		--scenario devices 2>&1 | sed -n 's/.* over \([a-z]*: .*\)/\1/p')
	[ "$got" = "$1" ] || complain "${*:2}: '$got' instead of '$1'"
}

# sent CLASS: packets so far with this byte in their header
sent() { tc -s filter show dev port0 egress | awk -v class="$1" '$0 ~ "match 00" class { on = 1 } on && /Sent/ { print $4; exit }'; }

marks() {
	local class
	tc qdisc add dev port0 clsact
	for class in 20 68; do
		tc filter add dev port0 egress protocol ip prio $((0x$class)) u32 match ip tos 0x$class 0xff action ok
	done
	NCCL_IB_TC=0x20 check marked --version 12 --scenario connect || complain "marked: $(cat /tmp/marked)"
	[ "$(sent 20)" -gt 0 ] || complain "no packet has NCCL_IB_TC: $(tc -s filter show dev port0 egress)"
	[ "$(sent 68)" -eq 0 ] || complain "packets have a class that nobody asked for"
	NCCL_IB_TC=0x20 check marked --version 12 --scenario connect --traffic-class 104 || complain "marked: $(cat /tmp/marked)"
	[ "$(sent 68)" -gt 0 ] || complain "no packet has the communicator's class"
}

# The listener of one side notices that its port is down for good, and says so once.
unplugged() {
	local waiting
	SNT_TIMEOUT=4000 check silence --version 12 --scenario silence &
	waiting=$!
	sleep 4
	"$rdma/fault" unplug rxe0
	wait $waiting || complain "silence: $(cat /tmp/silence)"
	"$rdma/fault" plug rxe0
}

devices() {
	uses "verbs: rxe0 rxe1" A=
	uses "verbs: rxe1" NCCL_IB_HCA==rxe1
	uses "tcp: lo" NCCL_IB_DISABLE=1
}

scenarios() { check all --version 12 --schedules 40 || complain "$(cat /tmp/all)"; }

versions() {
	local version
	for version in 6 8 10 11; do
		check some --version $version --scenario channels || complain "version $version: $(cat /tmp/some)"
	done
}

carried() { cat /sys/class/infiniband/rxe1/ports/1/hw_counters/sent_pkts; }

# Both made one, of which one is gone in the middle.
merges() {
	local waiting before i
	before=$(carried)
	NCCL_DEBUG=INFO check lost --version 12 --merge --scenario soak --messages 6000 &
	waiting=$!
	for ((i = 0; i < 100 && $(carried) < before + 1000; i++)); do sleep 0.1; done
	"$rdma/fault" unplug rxe1
	kill -0 $waiting 2>/dev/null || complain "one lost: it was over before"
	wait $waiting || complain "one lost: $(cat /tmp/lost)"
	[ "$(grep -c 'device 2 is rxe0+rxe1' /tmp/lost)" -eq 2 ] || complain "not merged: $(cat /tmp/lost)"
	grep -q 'rails: rxe1 to the peer is lost' /tmp/lost || complain "nobody noticed: $(cat /tmp/lost)"
	"$rdma/fault" plug rxe1
}

inside() {
	local part start
	export NCCL_SOCKET_IFNAME=lo
	for part in devices scenarios versions merges marks unplugged; do
		start=$SECONDS
		$part
		echo "nccl: $part: $((SECONDS - start)) s"
	done
	exit $bad
}

cd "$build" || exit 99
[ "${1-}" != inside ] || inside
[ -e .libs/libnccl-net-sennit.so ] || { echo "skipped: no plugin in $build"; exit 77; }
exec "$rdma/vm" --timeout 220 -- env BUILD="$build" bash "$rdma/nccl.sh" inside
