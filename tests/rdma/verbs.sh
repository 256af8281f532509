#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The verbs transport on real verbs, between software devices in the virtual machine of tests/rdma/vm:
# the conformance suite, what doctor says, all collectives, two devices, classes, loss, a link that flaps,
# a peer that is killed, a port that stays down, two ports at once of which one is unplugged and comes back,
# queue pairs in error, and a limit on locked memory.
# Run in the build folder, or with its path in BUILD.
set -u
rdma=$(cd "$(dirname "$0")" && pwd -P)
build=${BUILD-$PWD}
bad=0

complain() {
	echo "verbs: $*"
	bad=1
}

# ---- in the machine

# pair FAULT ARGUMENTS...: rank 0 on rxe0 and rank 1 on rxe1; after 2 s the fault, if any. Statuses in
# $one and $two, what they said in $said.*
pair() {
	local fault=$1 first second
	shift
	export SNT_SIZE=2 SNT_SECRET=the-secret-of-the-rig-and-of-nobody-else SNT_ADDRESS=127.0.0.1:$((port = port + 1))
	SNT_VERBS_TRAFFIC_CLASS=$class SNT_RANK=0 SNT_VERBS_DEVICES=rxe0 ./sennit perf "$@" --transport verbs >"$said.0" 2>&1 &
	first=$!
	SNT_RANK=1 SNT_VERBS_DEVICES=rxe1 ./sennit perf "$@" --transport verbs >"$said.1" 2>&1 &
	second=$!
	if [ -n "$fault" ]; then
		sleep 2
		$fault $second
	fi
	( sleep 60; kill $first $second ) 2>/dev/null &
	local watch=$!
	wait $first; one=$?
	wait $second 2>/dev/null; two=$?
	kill $watch
	unset SNT_SIZE SNT_RANK SNT_ADDRESS
}

# goes WHAT: the pair came through, with right results.
goes() {
	[ "$one" -eq 0 ] && [ "$two" -eq 0 ] && return
	complain "$1: statuses $one and $two"
	cat "$said.0" "$said.1"
}

# ends WHAT TEXT: rank 0 failed in time, and said why.
ends() {
	[ "$one" -eq 1 ] && grep -q "$2" "$said.0" && return
	complain "$1: status $one"
	cat "$said.0"
}

# writes: rank 0 sends 5 large messages and receives as many, and what leaves rxe0 is looked at: each is RDMA writes alone
# that end in one with immediate for each of two queue pairs; for each that is received a request of 104 bytes is written
# with an immediate to the third, in one packet; and what is sent are headers.
writes() {
	local seen=/tmp/verbs.opcodes status=0
	export SNT_SIZE=2 SNT_SECRET=the-secret-of-the-rig-and-of-nobody-else SNT_ADDRESS=127.0.0.1:$((port = port + 1))
	SNT_RANK=1 SNT_VERBS_DEVICES=rxe1 timeout 60 ./sennit perf latency --transport verbs --shared --sizes 1M --warmup 2 --iterations 3 \
		--no-check >"$said.1" 2>&1 &
	SNT_RANK=0 SNT_VERBS_DEVICES=rxe0 timeout 60 python3 -B "$rdma/opcodes" eth0 ./sennit perf latency --transport verbs --shared \
		--sizes 1M --warmup 2 --iterations 3 --no-check >$seen 2>"$said.0" || status=$?
	wait $!
	unset SNT_SIZE SNT_RANK SNT_ADDRESS
	awk -v large=$((5 << 20)) '
		$1 == "write" || $1 == "write_last_with_immediate" { payload += $3 }
		$1 == "write_last_with_immediate" { immediates = $2; pairs = $4 }
		$1 == "write_only_with_immediate" { requests = $2; asked = $3; over = $4 }
		$1 == "send" { sent = $3 }
		$1 == "other" { other = $2 }
		END { exit !(payload == large && immediates == 10 && pairs == 2 && requests == 5 && asked == 5 * 104 && over == 1 &&
			sent > 0 && sent < 65536 && !other) }' $seen &&
		[ $status -eq 0 ] && return
	complain "5 messages of 1 MiB (status $status): kind, packets, payload, queue pairs:"
	cat $seen "$said.0" "$said.1"
}

# readme: what README.md shows to be run in the machine.
readme() {
	local commands command
	mapfile -t commands < <(sed -n 's/^    tests.rdma.vm -- //p' "$rdma/../../README.md")
	[ ${#commands[@]} -gt 0 ] || complain "README.md shows nothing"
	for command in "${commands[@]}"; do
		timeout 60 bash -c "${command/build\/sennit/./sennit}" >$said 2>&1 || { complain "README.md: $command"; cat $said; }
	done
}

# compared: what perf/rdma does in the machine, once.
compared() {
	local who='ib_send_lat\|ib_write_lat\|sennit\|sennit nccl'
	timeout 60 python3 -B "$rdma/../../perf/rdma" --inside --sennit ./sennit --nccl --rounds 1 --latency 8 --bandwidth '' \
		--exchanges 50 >$said 2>&1 &&
		[ "$(grep -c '"what": "latency", "who": "\('"$who"'\)", "bytes": 8, "value": [1-9]' $said)" -eq 4 ] && return
	complain "perf/rdma:"
	cat $said
}

killed() { kill -9 "$1"; }
unplugged() { "$rdma/fault" unplug rxe0; }

# It is out for longer than a few acknowledgements take, and for less than all of them.
flapped() {
	"$rdma/fault" unplug rxe0
	sleep 1
	"$rdma/fault" plug rxe0
}

down() { "$rdma/fault" down rxe0; }

# marked DEVICE: how many packets with DSCP 26 it has sent, from the second call on
marked() {
	local eth=eth${1#rxe}
	if ! tc qdisc show dev "$eth" | grep -q 'prio 1:'; then
		modprobe -a sch_prio cls_u32
		tc qdisc replace dev "$eth" root handle 1: prio bands 4 priomap 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3
		tc filter add dev "$eth" parent 1: prio 1 protocol ip u32 match ip tos 0x68 0xfc flowid 1:1
	fi
	tc -s class show dev "$eth" classid 1:1 | awk '$1 == "Sent" { print $4 }'
}

# One side names the class, both directions have it.
classes() {
	local sent device
	for device in rxe0 rxe1; do marked $device >/dev/null; done
	class=104 pair '' allreduce --check --max 64K --factor 256 --iterations 5
	goes "a traffic class"
	for device in rxe0 rxe1; do
		sent=$(marked $device)
		[ "${sent:-0}" -ge 50 ] || complain "only ${sent:-0} packets of $device had DSCP 26"
		tc qdisc delete dev "eth${device#rxe}" root
	done
}

# rails: rank 0 has two ports and rank 1 two others; one of them is out in the middle, longer than verbs alone would wait.
rails() {
	local first second
	export SNT_SIZE=2 SNT_SECRET=the-secret-of-the-rig-and-of-nobody-else SNT_ADDRESS=127.0.0.1:$((port = port + 1))
	SNT_RANK=0 SNT_RAILS=rxe0,rxe2 timeout 90 ./sennit perf allreduce --transport rails --check --min 1M --max 1M --seconds 16 \
		>"$said.0" 2>&1 &
	first=$!
	SNT_RANK=1 SNT_RAILS=rxe1,rxe3 timeout 90 ./sennit perf allreduce --transport rails --check --min 1M --max 1M --seconds 16 \
		>"$said.1" 2>&1 &
	second=$!
	sleep 3
	"$rdma/fault" unplug rxe0
	sleep 6
	"$rdma/fault" plug rxe0
	wait $first; one=$?
	wait $second; two=$?
	unset SNT_SIZE SNT_ADDRESS
	goes "two ports at once"
	[ "$(grep -c 'rails: rxe0 to rank 1 is \(lost\|back\)' "$said.0")" -eq 2 ] || { complain "rails:"; cat "$said.0"; }
	grep -q 'sennit: error' "$said.0" "$said.1" && { complain "rails, an error:"; cat "$said.0" "$said.1"; }
}

inside() {
	local port=7000 said=/tmp/verbs class=0 one two
	export SNT_TIMEOUT=10000
	./sennit doctor >$said 2>&1
	grep -q '^ok .*rdma use .*can be opened' $said || { complain "doctor:"; cat $said; }
	timeout 60 ./tests/test_verbs_faults device >$said 2>&1 || { complain "queue pairs in error:"; cat $said; }
	timeout 120 ./tests/test_verbs device >$said 2>&1 || { complain "conformance:"; grep -v OK $said; }
	timeout 100 ./sennit perf all --transport verbs --ranks 2 --check --max 256K --factor 512 --iterations 2 >$said 2>&1 ||
		{ complain "collectives:"; cat $said; }
	pair '' allreduce --check --max 1M --factor 1024 --iterations 2
	goes "two devices"
	writes
	readme
	compared
	export SNT_VERBS_CONNECT=cm
	pair '' allreduce --check --max 1M --factor 1024 --iterations 2
	goes "two devices through librdmacm"
	unset SNT_VERBS_CONNECT
	classes
	"$rdma/fault" link rxe0 loss 5%
	pair '' allreduce --check --max 64K --factor 256 --iterations 2
	goes "5 % loss"
	"$rdma/fault" clear rxe0
	pair flapped allreduce --check --min 64K --max 64K --iterations 3000
	goes "a link that flaps"
	pair killed allreduce --min 64K --max 64K --iterations 1000000
	ends "a killed peer" "rank 1"
	pair unplugged allreduce --min 64K --max 64K --iterations 1000000
	ends "a port that stays down" "rank 1\|is down"
	"$rdma/fault" plug rxe0
	pair down allreduce --min 64K --max 64K --iterations 1000000
	ends "an interface that goes down" "rank 1\|is down"
	"$rdma/fault" up rxe0
	pair '' allreduce --check --max 64K --factor 256 --iterations 2
	goes "an interface that is up again"
	rails
	"$rdma/fault" memlock 65536 timeout 20 ./sennit perf allreduce --ranks 2 --transport verbs --max 8 >$said 2>&1 &&
		complain "64 KiB of locked memory were enough"
	grep -q "may lock 64 KiB" $said || { complain "64 KiB of locked memory:"; cat $said; }
	exit $bad
}

cd "$build" || exit 99
[ "${1-}" != inside ] || inside
[ -x tests/test_verbs ] || { echo "skipped: no tests/test_verbs in $build: make check builds it"; exit 77; }
exec "$rdma/vm" --devices 4 --timeout 400 -- env BUILD="$build" bash "$rdma/verbs.sh" inside
