#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# 'sennit doctor' on copies of a machine's files, each with one thing wrong: it is named, with the line that mends it.
set -u
sennit=${SENNIT:-build/sennit}
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }
bad=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

complain() {
	echo "$*"
	bad=1
}

put() { mkdir -p "$(dirname "$root/$1")" && echo "$2" >"$root/$1"; }

# gid PORT INDEX GID TYPE INTERFACE
gid() {
	put "$1/gids/$2" "$3"
	put "$1/gid_attrs/types/$2" "$4"
	put "$1/gid_attrs/ndevs/$2" "$5"
}

# device NAME INTERFACE MTU ADDRESS: RoCE, with nothing wrong
device() {
	local port=sys/class/infiniband/$1/ports/1
	put "$port/state" '4: ACTIVE'
	put "$port/phys_state" '5: LinkUp'
	put "$port/rate" '100 Gb/sec (4X EDR)'
	put "$port/link_layer" Ethernet
	put "$port/pkeys/0" 0xffff
	gid "$port" 0 fe80:0000:0000:0000:0000:0000:0000:0001 'IB/RoCE v1' "$2"
	gid "$port" 1 fe80:0000:0000:0000:0000:0000:0000:0001 'RoCE v2' "$2"
	gid "$port" 2 "0000:0000:0000:0000:0000:ffff:0a00:000$4" 'IB/RoCE v1' "$2"
	gid "$port" 3 "0000:0000:0000:0000:0000:ffff:0a00:000$4" 'RoCE v2' "$2"
	gid "$port" 4 0000:0000:0000:0000:0000:0000:0000:0000 '' ''
	put "sys/class/net/$2/mtu" "$3"
	put "dev/infiniband/uverbs$4" ''
}

# A machine with two devices and nothing wrong.
machine() {
	root=$(mktemp -d -p "$work")
	device mlx5_0 eth0 4200 1
	device mlx5_1 eth1 4200 2
	mkdir -p "$root/sys/class/infiniband_verbs" "$root/sys/class/misc/rdma_cm"
	put proc/self/limits 'Max locked memory         unlimited            unlimited            bytes     '
	put proc/self/status 'CapEff:	0000000000000000'
	put proc/self/uid_map '         0          0 4294967295'
}

# says VERDICT NAME TEXT [FIX]: of the machine in $root
says() {
	local said
	said=$("$sennit" doctor --root "$root")
	grep -E "^$1 +$2 " -A 1 <<<"$said" | grep -qE -- "$3" || complain "no '$1 $2' with '$3' in:" "$said"
	[ $# -lt 4 ] || grep -E "^$1 +$2 " -A 1 <<<"$said" | grep -qE -- "fix: .*$4" || complain "'$1 $2' lacks the fix '$4' in:" "$said"
}
ports() { echo "$root/sys/class/infiniband/$1/ports/1"; }

machine
says ok rdma '2 active ports'
says ok 'locked memory' unlimited
"$sennit" doctor --root "$root" | grep -vE '^ok' && complain "something is wrong with what is right"

machine
put proc/self/limits 'Max locked memory         65536                65536                bytes     '
says warn 'locked memory' 'only 64 KiB' 'memlock unlimited'
put proc/self/status 'CapEff:	000001ffffffffff'
says ok 'locked memory' 'CAP_IPC_LOCK'
put proc/self/uid_map '         0       1000          1'
says warn 'locked memory' 'only 64 KiB'
put .dockerenv ''
says warn 'locked memory' 'only 64 KiB' '--ulimit memlock=-1'

machine
rmdir "$root/sys/class/infiniband_verbs"
says warn 'rdma modules' ib_uverbs 'modprobe ib_uverbs'
machine
rmdir "$root/sys/class/misc/rdma_cm"
says ok 'rdma modules' 'rdma_ucm is not'
machine
rm -r "$root/sys/class/infiniband" "${root:?}/dev"
says ok rdma 'no device'
put sys/bus/pci/devices/0000:01:00.0/vendor 0x15b3
put sys/bus/pci/devices/0000:01:00.0/class 0x020000
says warn rdma 'mlx5_ib is not loaded' 'modprobe mlx5_ib'

machine
rm -r "${root:?}/dev"
says warn 'rdma nodes' 'no /dev/infiniband/uverbs' 'udevadm trigger'
says ok container none
put .dockerenv ''
says warn 'rdma nodes' 'no /dev/infiniband/uverbs' 'docker run --device'
says warn container 'without /dev/infiniband' '--device /dev/infiniband --cap-add IPC_LOCK'
machine
put run/systemd/container podman
says warn container 'without CAP_IPC_LOCK' '--cap-add IPC_LOCK'
if [ "$(id -u)" -ne 0 ]; then
	machine
	chmod 0 "$root"/dev/infiniband/uverbs1
	says warn 'rdma nodes' '1 of 2 nodes' 'chmod 666'
fi

machine
put sys/class/infiniband/mlx5_0/ports/1/state '1: DOWN'
put sys/class/infiniband/mlx5_0/ports/1/phys_state '3: Disabled'
says warn 'rdma ports' 'mlx5_0 port 1 is 1: DOWN \(3: Disabled\)' 'ip link set eth0 up'
put sys/class/infiniband/mlx5_0/ports/1/link_layer InfiniBand
put sys/class/infiniband/mlx5_0/ports/1/state '2: INIT'
says warn 'rdma ports' '2: INIT' opensm

machine
rm -r "$(ports mlx5_1)/gids"
says warn 'rdma gids' 'mlx5_1 port 1 has an empty GID table' 'network namespace|--network host|rdma dev set mlx5_1 netns'
machine
echo 'IB/RoCE v1' | tee "$(ports mlx5_1)/gid_attrs/types/1" >"$(ports mlx5_1)/gid_attrs/types/3"
says warn 'rdma gids' 'none of RoCE v2' 'cma_roce_mode -d mlx5_1 -p 1 -m 2'
machine
rm "$(ports mlx5_0)"/gids/[234]
says warn 'rdma gids' 'no RoCE v2 GID with an IPv4 address' 'ip address add .* dev eth0'

machine
put sys/class/net/eth1/mtu 1500
says warn 'rdma mtu' 'MTU mismatch: eth1 has 1500 and eth0 4200, so packets between them carry 1024' 'ip link set eth1 mtu 4200'
put sys/class/net/eth0/mtu 1500
says warn 'rdma mtu' 'only 1024 of 4096' 'ip link set eth[01] mtu 4200'

machine
put sys/class/infiniband/mlx5_0/ports/1/link_layer InfiniBand
put sys/class/infiniband/mlx5_0/ports/1/pkeys/0 0x7fff
says warn 'rdma pkeys' 'limited member' partitions.conf
exit $bad
