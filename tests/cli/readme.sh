#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Every command that README.md shows runs; ./quickstart itself is .ci/run's matter.
set -eu
sennit=${SENNIT:-build/sennit}
readme=${srcdir:-.}/README.md
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

mapfile -t commands < <(grep -E '^    (build/sennit|mpirun) ' "$readme")
[ "${#commands[@]}" -ge 4 ] || { echo "README.md shows only ${#commands[@]} commands"; exit 1; }
for command in "${commands[@]}"; do
	command=${command#    }
	if [ "${command%% *}" = mpirun ]; then
		if [ -n "${NO_PMIX-}" ] || ! command -v mpirun.openmpi >/dev/null; then continue; fi
		command="mpirun.openmpi ${command#mpirun } --max 64K --iterations 5"
	fi
	echo "$command"
	bash -c "timeout 100 ${command//build\/sennit/$sennit}" >/dev/null
done
