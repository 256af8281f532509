#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The network plugin for NCCL over ucx, and over verbs on a mock of libibverbs; which devices it takes by NCCL's variables
# and by ours; what NCCL's variables set; and what is said when two ranks do not take the same network.
set -u
sennit=${SENNIT:-build/sennit}
build=$(cd "$(dirname "$sennit")" && pwd -P)
plugin=$build/.libs/libnccl-net-sennit.so
mock=$build/tests/mock_verbs/.libs
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }
[ -e "$plugin" ] || { echo "$plugin is not built"; exit 99; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export NCCL_SOCKET_IFNAME=lo
bad=0
complain() {
	echo "$*"
	bad=1
}

# check NAME ARGUMENT...: nccl-check with the newest version, what it says in $work/NAME
check() {
	local name=$1
	shift
	timeout 100 "$sennit" nccl-check --plugin "$plugin" --version 12 "$@" >"$work/$name" 2>&1
}

# says NAME WORDS VARIABLE=VALUE...: the plugin logs the words
says() {
	local name=$1 words=$2
	shift 2
	env NCCL_DEBUG=INFO "$@" timeout 60 "$sennit" nccl-check --plugin "$plugin" --version 12 --threads --scenario devices \
		>"$work/$name" 2>&1
	grep -qF -- "$words" "$work/$name" || complain "$*: not '$words' but: $(cat "$work/$name")"
}

# ---- ucx

# The sanitizers see what UCX itself leaves behind.
if [ -n "${NO_UCX-}" ] || nm "$plugin" | grep -qE '__(asan|tsan)_'; then
	without_ucx="with sanitizers"
else
	SNT_NCCL_TRANSPORTS=ucx check ucx --schedules 15 || without_ucx=$(grep -oE 'this build has no UCX|libucp[^:]*: cannot open' "$work/ucx")
fi
if [ -z "${without_ucx-}" ]; then
	grep -q '^20 of 20 passed' "$work/ucx" || complain "over ucx: $(cat "$work/ucx")"
fi

# ---- verbs

with_mock() { LD_LIBRARY_PATH=$mock${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@"; }

# takes DEVICES VARIABLE=VALUE...: which of three RDMA devices the plugin takes
takes() { with_mock says devices "over $1" MOCK_DEVICES=3 "${@:2}"; }

# merged SCENARIO: over ports that NCCL has merged
merged() { NCCL_DEBUG=INFO SNT_NCCL_TRANSPORTS=verbs with_mock check merged --threads --merge --schedules 15 --scenario "$1"; }

if [ -e "$mock/libibverbs.so.1" ]; then
	SNT_NCCL_TRANSPORTS=verbs with_mock check verbs --threads --schedules 15 || complain "over verbs: $(cat "$work/verbs")"
	# A GPU's memory goes by dmabuf, and what has arrived there is seen only after a flush; without dmabufs nothing is said of it
	for mock_gpu in MOCK_LAGS MOCK_NO_DMABUFS; do
		env $mock_gpu=1 NCCL_DEBUG=INFO SNT_NCCL_TRANSPORTS=verbs LD_LIBRARY_PATH="$mock" \
			timeout 60 "$sennit" nccl-check --plugin "$plugin" --threads --scenario gpu >"$work/$mock_gpu" 2>&1 ||
			complain "$mock_gpu: $(cat "$work/$mock_gpu")"
	done
	[ "$(grep -c 'memory of a GPU went both ways' "$work/MOCK_LAGS")" -eq 14 ] || complain "GPUs: $(cat "$work/MOCK_LAGS")"
	grep -q 'mock0 does not register memory of GPUs: mock0 registers no dmabufs' "$work/MOCK_NO_DMABUFS" ||
		complain "without dmabufs: $(cat "$work/MOCK_NO_DMABUFS")"
	# Two ports that NCCL has merged; one of them goes down in the middle, and stays down for the connections that follow
	for scenario in merge pipeline grouped register farewell abort schedules; do
		MOCK_DEVICES=2 MOCK_NO_DMABUFS=1 merged $scenario || complain "merged, $scenario: $(cat "$work/merged")"
		grep -q 'device 2 is mock0+mock1' "$work/merged" || complain "not merged, $scenario: $(cat "$work/merged")"
	done
	for scenario in "channels verbs: port 1 of mock1 is down" "schedules rails: without mock1: it is not up"; do
		MOCK_DEVICES=2 MOCK_NO_DMABUFS=1 MOCK_DOWN_AFTER=1:500000 merged "${scenario%% *}" || complain "one down, $scenario: $(cat "$work/merged")"
		grep -qF "${scenario#* }" "$work/merged" || complain "one down, unnoticed, $scenario: $(cat "$work/merged")"
	done
	# Ports that take the memory of GPUs are merged only if NCCL is told to; then that memory is refused
	MOCK_DEVICES=2 NCCL_DEBUG=INFO SNT_NCCL_TRANSPORTS=verbs with_mock check gpus_apart --threads --scenario gpu --merge &&
		complain "merged although they take GPUs: $(cat "$work/gpus_apart")"
	grep -q 'not merged: they register memory of GPUs' "$work/gpus_apart" || complain "GPUs: $(cat "$work/gpus_apart")"
	MOCK_DEVICES=4 NCCL_NET_FORCE_MERGE=mock0,mock1 merged gpu || complain "merged by force: $(cat "$work/merged")"
	grep -q 'mock0+mock1+mock2+mock3: .* of a GPU cannot be registered' "$work/merged" || complain "merged by force: $(cat "$work/merged")"
	takes "verbs: mock0 mock1 mock2" A=
	takes "verbs: mock1" NCCL_IB_HCA=mock1
	takes "verbs: mock0 mock1 mock2" NCCL_IB_HCA=mock:1
	takes "verbs: mock0 mock2" NCCL_IB_HCA=^mock1
	takes "verbs: mock2" NCCL_IB_HCA==mock,mock2
	takes "verbs: mock0 mock1" NCCL_IB_HCA=^=mock2
	takes "verbs: mock1" NCCL_IB_HCA=mock0:2,mock1:1:3:1
	takes "tcp: lo" NCCL_IB_HCA=mock0:2
	takes "tcp: lo" NCCL_IB_DISABLE=1
	takes "verbs: mock0 mock1 mock2" NCCL_IB_DISABLE=1 SNT_NCCL_TRANSPORTS=verbs
	takes "verbs: mock2" NCCL_IB_HCA=mock1 SNT_VERBS_DEVICES=mock2
	takes "tcp: lo" SNT_TRANSPORTS=shm,tcp
	with_mock check disagree --scenario connect --second SNT_NCCL_TRANSPORTS=tcp && complain "verbs and tcp make a connection"
	grep -q 'peer uses .* and this process .*set SNT_NCCL_TRANSPORTS alike' "$work/disagree" ||
		complain "verbs and tcp: $(cat "$work/disagree")"
else
	without_verbs=1
fi

# ---- settings

taken() { says setting "$1=$2 is taken for $3" "$1=$2" "${@:4}"; }
taken NCCL_IB_ADAPTIVE_ROUTING 1 SNT_VERBS_ADAPTIVE=1
taken NCCL_IB_ECE_ENABLE 0 SNT_VERBS_ECE=0
taken NCCL_IB_GID_INDEX 3 SNT_VERBS_GID=3
taken NCCL_IB_PKEY 0x10 SNT_VERBS_PKEY=16
taken NCCL_IB_QPS_PER_CONNECTION 16 SNT_VERBS_QPS=8
taken NCCL_IB_RETRY_CNT 5 SNT_VERBS_RETRIES=5
taken NCCL_IB_SL 3 SNT_VERBS_SERVICE_LEVEL=3
taken NCCL_IB_SPLIT_DATA_ON_QPS 1 SNT_VERBS_SPLIT=4K
taken NCCL_IB_TC 104 SNT_VERBS_TRAFFIC_CLASS=104
taken NCCL_IB_TIMEOUT 20 SNT_VERBS_TIMEOUT=20
taken NCCL_NSOCKS_PERTHREAD 4 SNT_TCP_SOCKETS=4
taken NCCL_NSOCKS_PERTHREAD 4 SNT_TCP_SOCKETS=16 NCCL_SOCKET_NTHREADS=5
taken NCCL_SOCKET_FAMILY AF_INET6 SNT_IP_VERSION=6
says own "NCCL_IB_TC=104 gives way to SNT_VERBS_TRAFFIC_CLASS" NCCL_IB_TC=104 SNT_VERBS_TRAFFIC_CLASS=32
says wrong "NCCL_IB_TC=1000 is ignored: SNT_VERBS_TRAFFIC_CLASS cannot be 1000" NCCL_IB_TC=1000
says unused "NCCL_IB_FIFO_TC is not used: requests and credit" NCCL_IB_FIFO_TC=4
NCCL_DEBUG=INFO NCCL_IB_TC=-1 check unset --threads --scenario devices
grep -q NCCL_IB_TC "$work/unset" && complain "NCCL_IB_TC=-1: $(cat "$work/unset")"
[ "$(grep -c 'over tcp' "$work/unset")" -eq 1 ] || complain "its devices are not told once: $(cat "$work/unset")"

[ $bad -eq 0 ] || exit 1
if [ -n "${without_ucx-}" ] || [ -n "${without_verbs-}" ]; then
	echo "skipped: ${without_ucx:+ucx: $without_ucx}${without_verbs:+ verbs: this build has no mock of libibverbs}"
	exit 77
fi
