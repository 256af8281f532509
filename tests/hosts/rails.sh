#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Two links between two hosts, 1 Gbit/s and 250 Mbit/s, used as one: both carry bytes, either may be cut while an allreduce moves
# and comes back, and nobody is told an error. A third link is for start-up.
# shellcheck source=tests/hosts/library.sh
. "$(dirname "$0")/library.sh"
command -v tc >/dev/null || { echo "skipped: tc is not installed"; exit 77; }
rates=(1gbit 250mbit)
meet=10.77.9.1
bare_hosts 2

# wire NUMBER NAME: a cable between the hosts
wire() {
	local host
	ip link add "$2" netns h0 type veth peer name "$2" netns h1 || exit 99
	for host in 0 1; do
		ip -n h$host address add 10.77."$1".$((host + 1))/24 dev "$2" && ip -n h$host link set "$2" up || exit 99
	done
}

wire 9 start
for k in 0 1; do
	wire $k eth$k
	for host in 0 1; do
		on $host tc qdisc add dev eth$k root tbf rate "${rates[k]}" burst 128kb latency 20ms ||
			{ echo "skipped: this kernel does not shape links"; exit 77; }
	done
done

# sent LINK: how many bytes host 0 has sent there
sent() {
	ip -n h0 -s link show "$1" | awk '/TX:/ { getline; print $1 }'
}

# waits until a link carries more than a megabyte; fails after so many seconds
carries() {
	local before now end=$((SECONDS + $2))
	before=$(sent "$1")
	while now=$(sent "$1"); [ $((now - before)) -lt 1000000 ]; do
		[ $SECONDS -lt $end ] || { show "$1 carries nothing within $2 s after $3"; return 1; }
		sleep 0.1
	done
}

export SNT_LOG=2 SNT_TIMEOUT=5000
# By name; with the interfaces named, by itself; two on one host and one on the other: that one.
for choice in SNT_RAILS=eth0,eth1 SNT_RAILS=10.77.0.0/24,10.77.1.0/24 SNT_INTERFACES=eth0,eth1; do
	before=("$(sent eth0)" "$(sent eth1)")
	(export "${choice?}"; right 2 1 perf allreduce --check --sizes 8,64K,8M --iterations 3 --warmup 1; exit "$bad") || bad=1
	[ $(($(sent eth0) - before[0])) -gt 10000000 ] || show "$choice: eth0 carried too little"
	[ $(($(sent eth1) - before[1])) -gt 3000000 ] || show "$choice: eth1 carried too little"
	! grep . "$work"/err.* || show "$choice: not quiet"
done

export SNT_RAILS=eth0,eth1
many=$(printf '4M,%.0s' {1..23})4M
for cut in 'link set eth1 down' 'link set eth0 down'; do
	link=${cut#link set } link=${link% down}
	start 2 1 perf allreduce --check --sizes "$many" --iterations 2 --warmup 0
	until grep -qs '^ *4194304' "$work/out.0"; do sleep 0.1; done
	# shellcheck disable=SC2086
	ip -n h0 $cut || exit 99
	carries "$([ "$link" = eth0 ] && echo eth1 || echo eth0)" 5 "a cut of $link"
	for ((tries = 0; tries < 50; tries++)); do said 0 'is lost' && break; sleep 0.1; done
	ip -n h0 link set "$link" up || exit 99
	carries "$link" 5 "it came back"
	wait
	[ "$(cat "$work"/status.*)" = $'0\n0' ] || show "$cut: a rank failed"
	awk '/^ +4194304/ { rows++; bad += $NF } END { exit !(rows == 24 && bad == 0) }' "$work/out.0" || show "$cut: wrong sums"
	said 0 "rails: $link to rank 1 is lost" || show "$cut: not said"
	said 0 "rails: $link to rank 1 is back" || show "$cut: not said to be back"
	said 0 'error' && show "$cut: an error"
done
exit $bad
