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
		SNT_ALGORITHMS=$choice right $shape perf allreduce --check --sizes 4,1001,16K,20K,300001,2M --iterations 3
	done
	# shellcheck disable=SC2086
	SNT_ALGORITHMS=allreduce:hierarchical right $shape perf allreduce --check --in-place --sizes 4,300001 --iterations 3 \
		--type int32 --op max
done

# Bytes that host 0 sends in all for 8 allreduces of 4 MiB by 2 x 2 ranks: with hierarchical 1 vector each, with ring
# 1.5. What is around them (frames, start-up) is less than a tenth of that.
for choice in '' allreduce:hierarchical allreduce:ring; do
	before=$(sent)
	SNT_ALGORITHMS=$choice right 2 2 perf allreduce --no-check --sizes 4M --iterations 6 --warmup 2
	after=$(sent)
	tenths=$(((after - before) / (8 * 4 * 1024 * 1024 / 10)))
	case $choice in
	*ring) [ $tenths -ge 15 ] || complain "ring: host 0 sent only $tenths tenths of a vector" ;;
	*) [ $tenths = 10 ] || [ $tenths = 11 ] || complain "'$choice': host 0 sent $tenths tenths of a vector" ;;
	esac
done
exit $bad
