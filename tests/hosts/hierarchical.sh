#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Hierarchical allreduce over hosts: right, chosen by itself for large vectors, and with the fewest bytes between hosts.
# shellcheck source=tests/hosts/library.sh
. "$(dirname "$0")/library.sh"
hosts 3

# sent: the bytes that host 0 has sent so far
sent() {
	ip -n h0 -s -o link show dev eth0 | sed -E 's/.*TX:[^\\]*\\ *([0-9]+).*/\1/'
}

for shape in '2 2' '3 2' '2 3'; do
	for choice in '' allreduce:hierarchical; do
		# shellcheck disable=SC2086
		SNT_ALGORITHMS=$choice right $shape perf allreduce --check --sizes 4,1001,20K,600001 --iterations 2 --warmup 1
	done
	# shellcheck disable=SC2086
	SNT_ALGORITHMS=allreduce:hierarchical right $shape perf allreduce --check --in-place --sizes 4,300001 --iterations 2 \
		--warmup 1 --type int32 --op max
done

# Bytes that host 0 sends in all for 4 allreduces of 2 MiB by 2 x 2 ranks: with hierarchical 1 vector each, with ring
# 1.5. What is around them (frames, start-up) and a packet sent twice is less than 0.4.
for choice in '' allreduce:hierarchical allreduce:ring; do
	before=$(sent)
	SNT_ALGORITHMS=$choice right 2 2 perf allreduce --no-check --sizes 2M --iterations 3 --warmup 1
	after=$(sent)
	tenths=$(((after - before) / (4 * 2 * 1024 * 1024 / 10)))
	case $choice in
	*ring) [ $tenths -ge 15 ] || complain "ring: host 0 sent only $tenths tenths of a vector" ;;
	*) ((tenths >= 10 && tenths <= 13)) || complain "'$choice': host 0 sent $tenths tenths of a vector" ;;
	esac
done
exit $bad
