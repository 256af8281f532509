#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Two links a host, of which one joins the hosts: chosen by name, by subnet, or found out; a wrong choice is an error.
# shellcheck source=tests/hosts/library.sh
. "$(dirname "$0")/library.sh"
export SNT_LOG=4
bare_hosts 2
bridge br0
# The links in the way come first, look alike on both hosts, and lead to switches of their own.
for host in 0 1; do
	bridge lone$host
	link $host lan0 lone$host 192.168.77.$((host + 1))/24
	link $host fast0 br0 10.77.0.$((host + 1))/24
done

for choice in fast0 10.77.0.0/24 10.0.0.0/8 'nowhere0,fast0' 'fast0 lan0'; do
	SNT_INTERFACES=$choice right 2 1 perf allreduce --check --sizes 8,64K --iterations 3 --warmup 1
	said 0 'rank 1: tcp, .* 10.77.0.2$' || show "SNT_INTERFACES=$choice: another way"
done

# By itself it takes the link that works, and soon enough.
SECONDS=0
right 2 1 perf allreduce --check --sizes 8,64K --iterations 3 --warmup 1
said 0 'rank 1: tcp, .* 10.77.0.2$' || show "without SNT_INTERFACES: another way"
[ $SECONDS -lt 8 ] || show "without SNT_INTERFACES: only after $SECONDS s"

SECONDS=0
for choice in slow0 172.16.0.0/12 10.77.0.0/33 10.77.0.0/; do
	SNT_INTERFACES=$choice start 2 1 perf allreduce --sizes 8 --iterations 2
	wait
	said 0 "no interface matches SNT_INTERFACES '$choice'; there are: lo .*lan0 \\(192.168.77.1\\), fast0 \\(10.77.0.1\\)" ||
		show "SNT_INTERFACES=$choice: not said what there is"
	[ "$(cat "$work"/status.*)" = $'1\n1' ] || show "SNT_INTERFACES=$choice: no failure"
done
[ $SECONDS -lt 4 ] || show "wrong names: $SECONDS s until the errors"

# A mistake on one host only ends all ranks too.
SECONDS=0
for rank in 1 0; do
	SNT_INTERFACES=$([ $rank = 1 ] && echo slow0) SNT_RANK=$rank SNT_SIZE=2 SNT_ADDRESS=$meet:29501 on $rank \
		timeout 30 "$sennit" perf allreduce --sizes 8 >"$work/out.$rank" 2>"$work/err.$rank" &
done
wait
said 0 "rank 1 gave up: tcp: no interface matches SNT_INTERFACES 'slow0'" || show "a mistake on host 1: host 0 does not say so"
[ $SECONDS -lt 4 ] || show "a mistake on host 1: $SECONDS s until the error"
exit $bad
