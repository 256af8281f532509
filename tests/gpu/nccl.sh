#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# NCCL itself, under PyTorch, over the network plugin: two processes on one GPU that NCCL takes for two hosts. All
# collectives give the right results, the log names the plugin, the profile has counted; then times beside NCCL's own sockets.
set -u
sennit=${SENNIT:-build/sennit}
plugin=$(dirname "$sennit")/.libs/libnccl-net-sennit.so
job=$(dirname "$0")/nccl_job.py
[ -e "$plugin" ] || { echo "$plugin is not built"; exit 99; }
nvidia-smi -L 2>/dev/null | grep -q GPU || { echo "skipped: no NVIDIA GPU"; exit 77; }
python3 -c 'import torch; raise SystemExit(not (torch.cuda.is_available() and torch.distributed.is_nccl_available()))' \
	2>/dev/null || { echo "skipped: no PyTorch with CUDA and NCCL"; exit 77; }
work=$(mktemp -d)
trap 'kill "${ranks[@]}" 2>/dev/null; rm -rf "$work"' EXIT
ranks=()

# job NAME VARIABLE=VALUE...: two ranks; what rank R prints is in $work/NAME.R
job() {
	local name=$1 rank status=0
	shift
	ranks=()
	for rank in 0 1; do
		env RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT="$port" NCCL_HOSTID="host$rank" \
			NCCL_SOCKET_IFNAME=lo NCCL_MNNVL_ENABLE=0 NCCL_IB_DISABLE=1 NCCL_MAX_NCHANNELS=2 NCCL_DEBUG=INFO \
			NCCL_DEBUG_SUBSYS=INIT,NET,ENV "$@" timeout 240 python3 "$job" >"$work/$name.$rank" 2>&1 &
		ranks+=($!)
	done
	for rank in "${ranks[@]}"; do wait "$rank" || status=1; done
	port=$((port + 1))
	ranks=()
	return $status
}
port=$((20000 + $$ % 10000))

# counted RANK: the profile that the rank wrote tells of messages and bytes that it sent and received
counted() {
	python3 - "$work/profile.$1.json" <<'END'
import json, sys
with open(sys.argv[1]) as profile:
    lines = [json.loads(line) for line in profile]
for direction in "send", "receive":
    rows = [line for line in lines if line["type"] == "transfers" and line["direction"] == direction]
    if not (sum(row["messages"] for row in rows) and sum(row["bytes"] for row in rows)):
        sys.exit(f"{sys.argv[1]}: nothing counted for '{direction}' in {len(lines)} lines")
END
}

# NCCL has asked for profilers of the versions that we have since 2.27.
has_profiler() { sort -CV <<<"2.27"$'\n'"$(sed -n 's/.*, NCCL \([0-9.]*\)$/\1/p' "$work/sennit.0")"; }

bad=0
job sennit NCCL_NET_PLUGIN="$(realpath "$plugin")" NCCL_NET=Sennit SNT_PROFILE="$work/profile.%r.json" || bad=1
for rank in 0 1; do
	grep -q 'via NET/Sennit' "$work/sennit.$rank" || { echo "rank $rank: the log does not say that NET/Sennit is used"; bad=1; }
	grep -E 'WARN' "$work/sennit.$rank" && bad=1
	! has_profiler || counted "$rank" || { echo "rank $rank: the profile is not right"; bad=1; }
done
if [ $bad -ne 0 ]; then
	tail -n 40 "$work"/sennit.*
	exit 1
fi
grep -hE '^rank|NET/Sennit: sennit' "$work/sennit.0" "$work/sennit.1"
job socket NCCL_NET_PLUGIN=none NCCL_NET=Socket || { echo "NCCL's own sockets fail:"; tail -n 20 "$work/socket.0"; exit 0; }
echo "# allreduce, 2 ranks on one GPU over loopback, $(date +%F), $(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)"
echo "#    bytes   sennit us   socket us   ratio"
join <(grep '^time' "$work/sennit.0" | cut -d' ' -f2- | sort) <(grep '^time' "$work/socket.0" | cut -d' ' -f2- | sort) |
	sort -n | awk '{ printf "%10d %11.1f %11.1f %7.2f\n", $1, $2, $3, $3 / $2 }'
