#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The ucx transport over RDMA, between software devices in the virtual machine of tests/rdma/vm: the conformance
# suite over rc and ud, all collectives, what the automatic order takes between hosts that have both, one or none, and the
# traffic class of a communicator of NCCL's on every packet of both sides.
# Run in the build folder, or with its path in BUILD.
set -u
rdma=$(cd "$(dirname "$0")" && pwd -P)
build=${BUILD-$PWD}
bad=0

complain() {
	echo "ucx: $*"
	bad=1
}

# ---- in the machine

# over SET COMMAND...: with these transports of UCX. It finds no path to a GID by itself here, and the memory of
# its usual queues takes emulated devices seconds to register.
over() {
	UCX_TLS=$1,self UCX_NET_DEVICES=${rdma_port-rxe0:1} UCX_IB_GID_INDEX=1 UCX_UD_VERBS_ETH_DGID_CHECK=n \
		UCX_RC_VERBS_RX_QUEUE_LEN=256 UCX_UD_VERBS_RX_QUEUE_LEN=256 "${@:2}"
}

# member RANK HOST COMMAND...: as that rank, on a host with a boot id of its own
member() {
	local rank=$1 host=$2
	shift 2
	# shellcheck disable=SC2016 # for the shell that unshare starts
	SNT_RANK=$rank SNT_SIZE=3 SNT_ADDRESS=127.0.0.1:$port SNT_LOG=3 SNT_INTERFACES=lo unshare --mount bash -c '
		mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"' "/tmp/boot.$host" \
		timeout 60 "$@" ./sennit perf alltoall --check --sizes 3K --iterations 2 >"$said.$rank" 2>&1
}

# three DEVICE OF RANK...: ranks 0, 1, 2 on three hosts; '' is all there is, none is no device for verbs
three() {
	local rank pids=() status=0
	port=$((port + 1))
	for rank in 0 1 2; do
		over rc_v member $rank $rank env SNT_VERBS_DEVICES="${*:rank+1:1}" &
		pids+=($!)
	done
	for rank in 0 1 2; do
		wait "${pids[rank]}" || status=$?
	done
	[ $status -eq 0 ] || { complain "hosts with '$*': status $status"; cat "$said".?; }
}

# says RANK TEXT
says() { grep -q "$2" "$said.$1" || { complain "rank $1 does not say '$2':"; cat "$said.$1"; }; }

# sent PORT PRIO: packets that a filter of the switch's port has counted
sent() { tc -s filter show dev "$1" egress | awk -v prio="$2" '/pref/ { on = $0 ~ "pref " prio " " } on && /Sent/ { n = $4 } END { print n + 0 }'; }

# In version 10 the listener learns the class from its peer. What has none gets UCX's own, 106.
marks() {
	local port
	for port in port0 port1; do
		tc qdisc add dev $port clsact
		tc filter add dev $port egress protocol ip prio 1 u32 match ip tos 0x68 0xff action ok
		tc filter add dev $port egress protocol ip prio 2 u32 match ip dport 4791 0xffff action ok
	done
	NCCL_SOCKET_IFNAME=lo SNT_NCCL_TRANSPORTS=ucx rdma_port=all over rc_v timeout 120 ./sennit nccl-check \
		--plugin .libs/libnccl-net-sennit.so --device 0,1 --version 10 --scenario short --traffic-class 104 >"$said" 2>&1 ||
		{ complain "NCCL over rc_v:"; cat "$said"; }
	for port in port0 port1; do
		[ "$(sent $port 1)" -gt 100 ] || complain "only $(sent $port 1) packets through $port have the class"
		[ "$(sent $port 2)" -eq 0 ] || complain "$(sent $port 2) packets through $port have another class"
		tc qdisc delete dev $port clsact
	done
}

inside() {
	local said=/tmp/ucx port=7100 set host
	export SNT_SECRET=the-secret-of-the-rig-and-of-nobody-else SNT_TIMEOUT=20000 CONFORMANCE_WAIT_MS=50000
	# The conformance test would choose sets of its own.
	for set in rc_v ud_v; do
		over $set timeout 200 ./tests/test_ucx named >"$said" 2>&1 || { complain "conformance over $set:"; grep -v OK "$said"; }
		over $set timeout 100 ./sennit perf all --transport ucx --ranks 3 --check --max 64K --factor 512 --iterations 2 \
			>"$said" 2>&1 || { complain "collectives over $set:"; cat "$said"; }
	done
	for host in 0 1 2; do
		echo "0000000$host-0000-0000-0000-000000000000" >"/tmp/boot.$host"
	done
	three '' none none
	says 0 'verbs: rxe'
	says 1 'verbs: left out'
	says 2 'ucx: rc_verbs'
	three '' '' ''
	says 1 'verbs: rxe'
	! grep -q 'ucx:' "$said".? || { complain "asked for UCX in vain"; grep ucx: "$said".?; }
	[ ! -e .libs/libnccl-net-sennit.so ] || marks
	exit $bad
}

cd "$build" || exit 99
[ "${1-}" != inside ] || inside
[ -x tests/test_ucx ] || { echo "skipped: no tests/test_ucx in $build: make check builds it"; exit 77; }
ucx_info -v >/dev/null 2>&1 || { echo "skipped: no ucx_info (package ucx-utils)"; exit 77; }
ucx_info -d | grep -q . || exit 99
exec "$rdma/vm" --timeout 600 -- env BUILD="$build" bash "$rdma/ucx.sh" inside
