#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# sennit perf inside mpirun of Open MPI (PMIx) and MPICH (PMI-1), and in torchrun's environment.
set -eu
sennit=${SENNIT:-build/sennit}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

check() {  # NAME: the output is a table of the right size without a wrong element
	grep -qE '^# +ranks +'"$2"'$' "$work/out" || { echo "$1: not $2 ranks"; cat "$work/out"; exit 1; }
	awk '/^ +[0-9]/ { rows++; bad += $NF } END { exit !(rows == 3 && bad == 0) }' "$work/out" ||
		{ echo "$1: wrong table"; cat "$work/out"; exit 1; }
	echo "$1: ok"
}

ran=0
# Not under the sanitizers: the launchers' PMIx library is not ours to mend.
if command -v mpirun.openmpi >/dev/null && [ -z "${NO_PMIX-}" ]; then
	timeout 60 mpirun.openmpi --oversubscribe -n 4 "$sennit" perf allreduce --sizes 8,1K,64K --iterations 5 >"$work/out"
	check 'Open MPI' 4
	# A process that never makes a team is not waited for beyond the start-up deadline.
	# shellcheck disable=SC2016 # the inner shell expands it
	SNT_STARTUP_TIMEOUT=1500 timeout 30 mpirun.openmpi --oversubscribe -n 3 \
		bash -c 'if [ "$PMIX_RANK" = 1 ]; then exec sleep 20; fi; exec "$0" perf barrier' "$sennit" >"$work/out" 2>&1 &&
		{ echo "Open MPI: a team without rank 1"; exit 1; }
	grep -q 'PMIx_Fence did not end within 1500 ms' "$work/out" || { echo "Open MPI: no word of the time"; cat "$work/out"; exit 1; }
	ran=1
fi
if command -v mpiexec.hydra >/dev/null; then
	timeout 60 mpiexec.hydra -n 4 "$sennit" perf allreduce --sizes 8,1K,64K --iterations 5 >"$work/out"
	check MPICH 4
	ran=1
fi
port=$((20000 + RANDOM % 10000))
for rank in 1 0; do
	SNT_SECRET=only-for-this-test-run RANK=$rank WORLD_SIZE=2 LOCAL_RANK=$rank MASTER_ADDR=127.0.0.1 \
		MASTER_PORT=$port timeout 60 "$sennit" perf allreduce --sizes 8,1K,64K --iterations 5 >"$work/out.$rank" &
done
wait
cp "$work/out.0" "$work/out"
check torchrun 2
[ $ran = 1 ] || echo "no mpirun here: only torchrun's environment was tried"
