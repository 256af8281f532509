#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The network plugin for NCCL where its threads meet: on one device; over verbs with a GPU, on the mocks; and on devices that are
# merged, which another thread tends. For the sanitizers: the scenarios themselves other tests run for every version.
set -u
if [ "${1-}" != inside ]; then
	unshare -n true 2>/dev/null || { echo "skipped: no network namespaces here"; exit 77; }
	exec unshare -n bash "$0" inside
fi
sennit=${SENNIT:-build/sennit}
build=$(cd "$(dirname "$sennit")" && pwd -P)
plugin=$build/.libs/libnccl-net-sennit.so
mock=$build/tests/mock_verbs/.libs
[ -e "$plugin" ] || { echo "$plugin is not built"; exit 99; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

ip link set lo up
for i in 0 1; do
	ip link add two$i type veth peer name end$i || { echo "skipped: no pairs of interfaces"; exit 77; }
	ip link set end$i up
	ip address add 10.77.$i.1/24 dev two$i
	ip link set two$i up
done

# check SCENARIO ARGUMENT...
check() {
	timeout 60 "$sennit" nccl-check --plugin "$plugin" --version 12 --schedules 5 --scenario "$@" >"$work/said" 2>&1 && return
	echo "$*: $(cat "$work/said")"
	bad=1
}

export NCCL_SOCKET_IFNAME=lo SNT_NCCL_TRANSPORTS=tcp
for scenario in register hints abort abandon fork; do check $scenario; done
export NCCL_SOCKET_IFNAME=two
for scenario in register channels abort cycles; do check $scenario --merge; done
if [ -e "$mock/libibverbs.so.1" ]; then
	export NCCL_SOCKET_IFNAME=lo SNT_NCCL_TRANSPORTS=verbs LD_LIBRARY_PATH=$mock${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} MOCK_LAGS=1
	for scenario in register gpu; do check $scenario --threads; done
	export MOCK_DEVICES=2 MOCK_NO_DMABUFS=1
	for scenario in register channels abort; do check $scenario --threads --merge; done
	# A long address still fits into a handle
	ip address add fd12:3456:789a:bcde:f123:4567:89ab:cdef/64 dev two0 nodad
	NCCL_SOCKET_IFNAME=two0 SNT_IP_VERSION=6 check connect --threads --merge
fi
exit $bad
