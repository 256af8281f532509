#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# IPv6 alone between the hosts, with and without link-local addresses, both families at once, and link-local ones only.
# shellcheck source=tests/hosts/library.sh
. "$(dirname "$0")/library.sh"
[ -e /proc/sys/net/ipv6 ] || { echo "skipped: this kernel has no IPv6"; exit 77; }
export SNT_LOG=4
bare_hosts 2
bridge br0
for host in 0 1; do
	link $host eth0 br0 fd00:77::$((host + 1))/64
done

meet=fd00:77::1
right 2 2 perf allreduce --check --sizes 8,1M --iterations 3 --warmup 1
said 1 'rank 2: tcp, .* fd00:77::2$' || show "IPv6 alone: not that way"
# sennit's own variables want brackets
for rank in 1 0; do
	SNT_RANK=$rank SNT_SIZE=2 SNT_ADDRESS=[$meet]:29501 on $rank timeout 30 "$sennit" perf broadcast --sizes 8 \
		--iterations 2 >"$work/out.$rank" 2>"$work/err.$rank" &
done
wait
said 0 'rank 1: tcp' || show "SNT_ADDRESS=[$meet]:29501 does not join the hosts"

SNT_INTERFACES=fd00:77::/32 right 2 1 perf allreduce --check --sizes 8,4K --iterations 3 --warmup 1

for host in 0 1; do
	ip -n h$host address add 10.77.0.$((host + 1))/24 dev eth0 || exit 99
done
right 2 1 perf allreduce --check --sizes 8,4K --iterations 3 --warmup 1
SNT_INTERFACES=fd00::/16 right 2 1 perf allreduce --check --sizes 8,4K --iterations 3 --warmup 1
said 0 'rank 1: tcp, .* fd00:77::2$' || show "a subnet of IPv6: not that way"
SNT_INTERFACES=10.0.0.0/8 right 2 1 perf allreduce --check --sizes 8,4K --iterations 3 --warmup 1
said 0 'rank 1: tcp, .* 10.77.0.2$' || show "a subnet of IPv4: not that way"

# What only holds on one link is of no use without the link's name: said, not tried until the time is up.
for host in 0 1; do
	ip -n h$host address flush dev eth0 scope global || exit 99
done
local_0=$(ip -n h0 -6 -o address show dev eth0 scope link | sed -nE 's/.*inet6 ([^/ ]+).*/\1/p')
[ -n "$local_0" ] || { ip -n h0 -6 address add fe80::1/64 dev eth0 nodad; local_0=fe80::1; }
[ -n "$(ip -n h1 -6 -o address show dev eth0 scope link)" ] || ip -n h1 -6 address add fe80::2/64 dev eth0 nodad
until [ -z "$(ip -n h0 -6 address show dev eth0 tentative; ip -n h1 -6 address show dev eth0 tentative)" ]; do
	sleep 0.1
done
SECONDS=0
meet=$local_0
SNT_STARTUP_TIMEOUT=2000 start 2 1 perf allreduce --sizes 8 --iterations 2
wait
said 1 'link' || show "a link-local address without a link: not said"
meet=$local_0%eth0
start 2 1 perf allreduce --sizes 8 --iterations 2
wait
said 1 'no interface is up with an address' || show "link-local addresses alone: not said"
[ "$(cat "$work"/status.*)" = $'1\n1' ] || show "link-local addresses alone: no failure"
[ $SECONDS -lt 12 ] || show "link-local addresses: $SECONDS s until the errors"
exit $bad
