#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# NCCL itself, under PyTorch, over the network plugin: two processes on one GPU that NCCL takes for two hosts. All
# collectives give the right results, the log names the plugin, the profile has counted; then times beside NCCL's own sockets.
# PYTHON is the interpreter that has PyTorch (python3).
set -u
sennit=${SENNIT:-build/sennit}
plugin=$(dirname "$sennit")/.libs/libnccl-net-sennit.so
job=$(dirname "$0")/nccl_job.py
python=${PYTHON:-python3}
[ -e "$plugin" ] || { echo "$plugin is not built"; exit 99; }
skip() { echo "skipped: $*"; exit 77; }
timeout 60 nvidia-smi -L 2>/dev/null | grep -q GPU || skip "no NVIDIA GPU"
# With MPS several processes are one to the GPU.
[ -e "${CUDA_MPS_PIPE_DIRECTORY:-/tmp/nvidia-mps}/control" ] ||
	! timeout 60 nvidia-smi --query-gpu=compute_mode --format=csv,noheader | grep -qE 'Exclusive|Prohibited' ||
	skip "the GPU takes one process at a time: nvidia-smi -c DEFAULT"
lacks=$(timeout 180 "$python" - 2>&1 <<'END'
import sys
try:
    import torch
except ImportError as why:
    sys.exit(f"no PyTorch ({why})")
if not torch.cuda.is_available():
    sys.exit(f"PyTorch {torch.__version__} finds no GPU that it can use")
if not (torch.distributed.is_available() and torch.distributed.is_nccl_available()):
    sys.exit(f"PyTorch {torch.__version__} is built without NCCL")
END
) || skip "$(tail -n 1 <<<"${lacks:-$python does not run or takes over 180 s to load PyTorch}")"
# What is set here, or in a file of NCCL's, is meant for other jobs.
for name in "${!NCCL_@}" "${!SNT_@}" "${!TORCH_NCCL_@}"; do unset "$name"; done
ranks=()
work=$(mktemp -d)
trap 'kill "${ranks[@]}" 2>/dev/null; rm -rf "$work"' EXIT
port=$((20000 + $$ % 10000))

# One has failed; soon the other should have noticed.
give_up() { sleep 5; kill "${ranks[@]}" 2>/dev/null; }

# job NAME VARIABLE=VALUE...: two ranks; what rank R prints is in $work/NAME.R, and NCCL's log in $work/NAME.R.log: as its
# standard output it would come in pieces, some of them in the middle of our lines.
job() {
	local name=$1 rank gone i failed status=0
	shift
	ranks=()
	for rank in 0 1; do
		env RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT="$port" NCCL_CONF_FILE=/dev/null \
			NCCL_HOSTID="host$rank" NCCL_SOCKET_IFNAME=lo NCCL_MNNVL_ENABLE=0 NCCL_IB_DISABLE=1 NCCL_RAS_ENABLE=0 \
			NCCL_MAX_NCHANNELS=2 NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET,ENV NCCL_DEBUG_FILE="$work/$name.$rank.log" \
			"$@" timeout -k 10 240 "$python" "$job" >"$work/$name.$rank" 2>&1 &
		ranks+=($!)
	done
	while [ ${#ranks[@]} -gt 0 ]; do
		wait -n -p gone "${ranks[@]}"
		failed=$?
		for i in "${!ranks[@]}"; do [ "${ranks[i]}" != "$gone" ] || unset "ranks[i]"; done
		[ $failed -eq 0 ] || [ ${#ranks[@]} -eq 0 ] || give_up
		status=$((status | failed))
	done
	port=$((port + 1))
	return $status
}

# counted RANK: the profile that the rank wrote tells of messages and bytes that it sent and received
counted() {
	"$python" - "$work/profile.$1.json" <<'END'
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

# As README has it: the name instead of a path, which NCCL cuts at 254 bytes and at commas.
bad=0
ln -s "$(realpath "$plugin")" "$work/"
job sennit LD_LIBRARY_PATH="$work${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" NCCL_NET_PLUGIN=sennit NCCL_NET=Sennit \
	SNT_PROFILE="$work/profile.%r.json" || { echo "the job over the plugin fails"; bad=1; }
for rank in 0 1; do
	log=$work/sennit.$rank.log
	grep -q 'via NET/Sennit' "$log" || { echo "rank $rank: the log does not say that NET/Sennit is used"; bad=1; }
	grep 'NCCL WARN' "$log" | grep Sennit && { echo "rank $rank: the plugin warns"; bad=1; }
	! has_profiler || counted "$rank" || { echo "rank $rank: the profile is not right"; bad=1; }
done
if [ $bad -ne 0 ]; then
	tail -n 40 "$work"/sennit.*
	exit 1
fi
grep -h '^rank' "$work/sennit.0" "$work/sennit.1"
grep -hoE 'NET/Sennit: sennit.*|NCCL WARN.*' "$work"/sennit.?.log
job socket NCCL_NET_PLUGIN=none NCCL_NET=Socket || { echo "NCCL's own sockets fail:"; tail -n 20 "$work"/socket.*; exit 0; }
echo "# allreduce, 2 ranks on one GPU over loopback, $(date +%F), $(sed -n 's/^on //p' "$work/sennit.0")"
echo "#    bytes   sennit us   socket us   ratio"
times() { sed -n 's/^time //p' "$work/$1.0" | LC_ALL=C sort -k1,1; }
LC_ALL=C join <(times sennit) <(times socket) |
	sort -n | awk '{ printf "%10d %11.1f %11.1f %7.2f\n", $1, $2, $3, $3 / $2 }'
