#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The network plugin for NCCL finds its devices, by either name of the setting, and each of them works; a peer that
# falls silent is an error in time even for who only receives. Two devices merged are one, until one of them is cut.
# shellcheck source=tests/hosts/library.sh
. "$(dirname "$0")/library.sh"
plugin=$(dirname "$sennit")/.libs/libnccl-net-sennit.so
[ -e "$plugin" ] || { echo "$plugin is not built"; exit 99; }
unset NCCL_SOCKET_IFNAME
export SNT_NCCL_TRANSPORTS=tcp
hosts 2
# On a switch of its own: on one switch either interface answers for the addresses of both.
bridge br1
for host in 0 1; do link $host eth1 br1 fd00:77::$((host + 1))/64; done
on 0 ip link add docker0 type bridge && on 0 ip address add 172.17.0.1/16 dev docker0 && on 0 ip link set docker0 up

# check NAME ARGUMENT...: nccl-check, with what it says in $work/NAME
check() {
	local name=$1
	shift
	on 0 timeout 60 "$sennit" nccl-check --plugin "$plugin" --version 12 "$@" >"$work/$name" 2>&1
}

# uses DEVICES VARIABLE=VALUE...: what the plugin says it uses
uses() {
	local want=$1 got
	shift
	# ip netns exec, as it shows the host's own /sys
	got=$(ip netns exec h0 env NCCL_DEBUG=INFO "$@" timeout 60 "$sennit" nccl-check --plugin "$plugin" --version 12 \
		--scenario devices 2>&1 | sed -n 's/.* over tcp: //p' | sort -u)
	[ "$got" = "$want" ] || complain "$*: '$got' instead of '$want'"
}
uses "eth0 eth1" A=
uses "eth1" NCCL_SOCKET_IFNAME=eth1
uses "eth0 eth1" NCCL_SOCKET_IFNAME=eth
uses "eth0 eth1" NCCL_SOCKET_IFNAME=^docker
uses "docker0" NCCL_SOCKET_IFNAME==docker0
uses "eth1" SNT_INTERFACES=fd00:77::/64 NCCL_SOCKET_IFNAME=eth0

# Each device, over version 4 and over version 6 of the internet protocol
for device in 0 1; do
	check "device$device" --device $device --scenario short || complain "device $device: $(cat "$work/device$device")"
done

# Between two hosts
for scenario in grouped channels abort death farewell; do
	check $scenario --netns /run/netns/h0,/run/netns/h1 --scenario $scenario || complain "$scenario: $(cat "$work/$scenario")"
done

# Measured between two hosts, plain sockets are beside it
check measured --netns /run/netns/h0,/run/netns/h1 --measure --rounds 1 --size 4096 || complain "measured: $(cat "$work/measured")"
grep -Eq '^ +4096( +[0-9.]+){6}$' "$work/measured" || complain "measured: $(cat "$work/measured")"

# Two devices as one; on one side alone; and where the other side has but one
between=(--netns "/run/netns/h0,/run/netns/h1")
export NCCL_SOCKET_IFNAME=eth
for scenario in merge short register abort death farewell; do
	check merged "${between[@]}" --merge --scenario $scenario || complain "$scenario, merged: $(cat "$work/merged")"
done
NCCL_DEBUG=INFO check merged "${between[@]}" --merge --scenario pipeline || complain "merged: $(cat "$work/merged")"
[ "$(grep -c 'device 2 is eth0+eth1' "$work/merged")" = 2 ] || complain "merged: $(cat "$work/merged")"
check merged "${between[@]}" --merge --second NCCL_SOCKET_IFNAME=eth0 --scenario channels || complain "one side merged: $(cat "$work/merged")"

# settled NUMBER: waits for so many connections
settled() {
	local i
	for ((i = 0; i < 100; i++)); do
		[ "$(on 0 ss -Hnt state established | wc -l)" -lt "$1" ] || return
		sleep 0.1
	done
}

# A communicator's class comes before the environment's, and marks what leaves.
# marks CLASS ARGUMENT...
marks() {
	local class=$1 waiting marked
	shift
	SNT_TCP_TRAFFIC_CLASS=32 check marks --netns /run/netns/h0,/run/netns/h1 --scenario silence "$@" &
	waiting=$!
	settled 4
	marked=$(on 0 ss -Hnt --tos state established | grep -o 'tos:0x[0-9a-f]*' | sort | uniq -c | tr -s ' ')
	[ "$marked" = " 4 tos:$class" ] || complain "$*: marked '$marked' instead of $class"
	pkill -P $waiting
	wait $waiting
}
marks 0x20
marks 0x68 --traffic-class 104

# One of the two merged devices is cut: what is under way goes on over the other.
NCCL_DEBUG=INFO check cut "${between[@]}" --merge --scenario soak --messages 300000 &
waiting=$!
settled 8
sleep 0.5
ip link set eth1h1 down
kill -0 $waiting 2>/dev/null || complain "cut: it was over before"
wait $waiting || complain "cut: $(cat "$work/cut")"
grep -q 'eth1.*silent' "$work/cut" || complain "cut: nobody noticed: $(cat "$work/cut")"
ip link set eth1h1 up

# One after the other is cut between the messages of a sender that sleeps.
check naps "${between[@]}" --merge --scenario naps &
waiting=$!
settled 8
sleep 0.7
ip link set eth1h1 down
sleep 1.5
ip link set eth1h1 up
sleep 2.5
ip link set eth0h1 down
wait $waiting || complain "naps: $(cat "$work/naps")"
ip link set eth0h1 up
unset NCCL_SOCKET_IFNAME

SNT_TIMEOUT=3000 check silence --netns /run/netns/h0,/run/netns/h1 --scenario silence &
waiting=$!
settled 4
sleep 1
ip link set eth0h1 down
SECONDS=0
wait $waiting || complain "silence: $(cat "$work/silence")"
[ $SECONDS -le 8 ] || complain "silence: noticed after $SECONDS s"
exit $bad
