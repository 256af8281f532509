#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Several hosts: collectives are right, shared memory joins the ranks of one host and tcp those of different hosts.
# shellcheck source=tests/hosts/library.sh
. "$(dirname "$0")/library.sh"
hosts 4
export SNT_LOG=4

# peers RANK WHAT: to which ranks it is connected by WHAT
peers() {
	sed -nE "s/.* rank ([0-9]+): $2.*/\1/p" "$work/err.$1"
}

# joined RANKS: every pair that is connected uses what its hosts allow, and both kinds occur where they can
joined() {
	local ranks=$1 rank peer inside=0 across=0
	for ((rank = 0; rank < jobs_size; rank++)); do
		while read -r peer; do
			inside=1
			[ $((rank / ranks)) = $((peer / ranks)) ] || show "ranks $rank and $peer share no memory"
		done < <(peers $rank 'shared memory')
		while read -r peer; do
			across=1
			[ $((rank / ranks)) != $((peer / ranks)) ] || show "ranks $rank and $peer need no tcp"
		done < <(peers $rank tcp)
	done
	[ $across = 1 ] || show "no tcp between hosts"
	[ $inside = $((ranks > 1)) ] || show "shared memory within hosts: $inside"
	grep -qE "^# +local_ranks +$ranks\$" "$work/out.0" || show "not $ranks local ranks"
}

for what in allreduce broadcast alltoall; do
	for shape in '2 1' '2 2' '4 1'; do
		# shellcheck disable=SC2086
		right $shape perf $what --check --sizes 8,4K,300001,2M --iterations 3 --warmup 1
		joined "${shape#* }"
	done
done

# The library's own variables
for rank in 1 0; do
	SNT_RANK=$rank SNT_SIZE=2 SNT_ADDRESS=$meet:29501 on $rank timeout 30 "$sennit" perf allreduce --sizes 8 \
		--iterations 2 >"$work/out.$rank" 2>"$work/err.$rank" &
done
wait
said 0 'rank 1: tcp' || show "SNT_RANK, SNT_SIZE, SNT_ADDRESS: no tcp"
grep -qE '^# +ranks +2$' "$work/out.0" || show "SNT_RANK, SNT_SIZE, SNT_ADDRESS: not 2 ranks"

# Without tcp hosts cannot be joined: an error at once, not a wait.
SECONDS=0
SNT_LOG=1 start 2 1 perf allreduce --sizes 8 --transport shm
wait
said 0 'no transport reaches rank 1: allow tcp' || show "shm alone between hosts: not said why"
[ "$(cat "$work"/status.*)" = $'1\n1' ] || show "shm alone between hosts: no failure"
[ $SECONDS -lt 8 ] || show "shm alone between hosts: $SECONDS s until the error"
exit $bad
