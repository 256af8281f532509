# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: BSD-3-Clause
# Hosts on one machine: network namespaces that a bridge joins. To be sourced by the tests beside it.
#
# The test runs once more inside mount, network and process namespaces of its own. The hosts' names, their links, the
# processes and all files in $work exist in there only, so that nothing of them outlives the test, however it ends.
set -u
sennit=${SENNIT:-build/sennit}
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }

enter_namespaces() {
	local missing own=(unshare --mount --net --pid --fork --mount-proc --kill-child)
	[ "$(id -u)" = 0 ] || { echo "skipped: only root can make network namespaces"; exit 77; }
	for missing in ip nsenter setpriv unshare; do
		command -v $missing >/dev/null || { echo "skipped: $missing is not installed"; exit 77; }
	done
	timeout 10 "${own[@]}" bash -c 'mount -t tmpfs none /run && mkdir /run/netns && ip netns add try &&
		ip link add try0 type veth peer name try1 && ip link add try2 type bridge &&
		nsenter --net=/run/netns/try true' >/dev/null 2>&1 ||
		{ echo "skipped: this machine allows no network namespaces"; exit 77; }
	trap 'kill -KILL "$inside" 2>/dev/null; wait "$inside"' EXIT
	trap 'exit 143' HUP INT TERM
	setpriv --pdeathsig KILL "${own[@]}" bash "$0" inside &
	inside=$!
	wait $inside
	exit $?
}

if [ "${1-}" != inside ]; then
	enter_namespaces
fi
trap 'exit 143' HUP INT TERM
mount -t tmpfs none /run && mkdir /run/netns /run/test || exit 99
work=/run/test
export SNT_SECRET=only-for-this-test-run-of-hosts SNT_TIMEOUT=10000 SNT_STARTUP_TIMEOUT=15000

bad=0
complain() {
	echo "$*"
	bad=1
}

# on HOST COMMAND...: runs the command on host number HOST
on() {
	local host=$1
	shift
	nsenter --net=/run/netns/h"$host" -- "$@"
}

# bridge NAME: a switch, in the namespace of the test itself
bridge() {
	ip link add "$1" type bridge && ip link set "$1" up || exit 99
}

# link HOST NAME BRIDGE ADDRESS...: a link of a host to a switch, or to nowhere when that is "-"
link() {
	local host=$1 name=$2 bridge=$3 far=$2h$1 address
	shift 3
	ip link add "$far" type veth peer name "$name" netns h"$host" || exit 99
	[ "$bridge" = - ] || ip link set "$far" master "$bridge" || exit 99
	ip link set "$far" up && ip -n h"$host" link set "$name" up || exit 99
	for address in "$@"; do
		case $address in
		*:*) ip -n h"$host" address add "$address" dev "$name" nodad || exit 99 ;;
		*) ip -n h"$host" address add "$address" dev "$name" || exit 99 ;;
		esac
	done
}

# bare_hosts N: N hosts with nothing but loopback
bare_hosts() {
	local host
	for ((host = 0; host < $1; host++)); do
		ip netns add h$host && ip -n h$host link set lo up || exit 99
	done
}

# hosts N: N hosts on one switch, 10.77.0.1 and so on at eth0
hosts() {
	local host
	bare_hosts "$1"
	bridge br0
	for ((host = 0; host < $1; host++)); do
		link $host eth0 br0 10.77.0.$((host + 1))/24
	done
}

# start HOSTS RANKS ARGUMENT...: sennit with ARGUMENTs, RANKS ranks on each host, in the background. Rank 0 is on host 0
# at $meet. What rank R prints is in $work/out.R and $work/err.R, its exit status, once ended, in $work/status.R.
meet=10.77.0.1
start() {
	local ranks=$2 size=$(($1 * $2)) rank
	shift 2
	rm -f "$work"/out.* "$work"/err.* "$work"/status.*
	for ((rank = size - 1; rank >= 0; rank--)); do
		{
			RANK=$rank WORLD_SIZE=$size LOCAL_RANK=$((rank % ranks)) MASTER_ADDR=$meet MASTER_PORT=29500 \
				on $((rank / ranks)) timeout 60 "$sennit" "$@" \
				>"$work/out.$rank" 2>"$work/err.$rank" </dev/null
			echo $? >"$work/status.$rank"
		} &
	done
	jobs_size=$size
}

# show WHAT: what went on, for who has to find out why
show() {
	complain "$*"
	tail -n 8 "$work"/status.* "$work"/err.* "$work"/out.*
}

# right HOSTS RANKS ARGUMENT...: start, wait; all ranks end well and no element is wrong
right() {
	local rank
	start "$@"
	wait
	for ((rank = 0; rank < jobs_size; rank++)); do
		[ "$(cat "$work/status.$rank")" = 0 ] || { show "$*: rank $rank failed"; return; }
	done
	awk '/^ +[0-9]/ { rows++; bad += $NF } END { exit !(rows > 0 && bad == 0) }' "$work/out.0" || show "$*: wrong table"
	grep -qE "^# +ranks +$jobs_size\$" "$work/out.0" || show "$*: not $jobs_size ranks"
}

# said RANK PATTERN: the rank's error output has the pattern
said() {
	grep -qE -- "$2" "$work/err.$1"
}
