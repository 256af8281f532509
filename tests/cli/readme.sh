#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Every command that README.md shows runs; ./quickstart itself is .ci/run's matter, what goes into a virtual machine
# that of tests/rdma/verbs.sh.
set -eu
sennit=${SENNIT:-build/sennit}
readme=${srcdir:-.}/README.md
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

mapfile -t commands < <(grep -E '^    (SNT_[A-Z_]*=[^ ]* )*(build/sennit|mpirun) ' "$readme")
[ "${#commands[@]}" -ge 4 ] || { echo "README.md shows only ${#commands[@]} commands"; exit 1; }
for command in "${commands[@]}"; do
	command=${command#    }
	settings=
	while [[ $command == SNT_* ]]; do
		settings+="${command%% *} "
		command=${command#* }
	done
	if [ "${command%% *}" = mpirun ]; then
		if [ -n "${NO_PMIX-}" ] || ! command -v mpirun.openmpi >/dev/null; then continue; fi
		command="mpirun.openmpi ${command#mpirun } --max 64K --iterations 5"
	fi
	command=$settings$command
	echo "$command"
	bash -c "timeout 100 env ${command//build\/sennit/$sennit}" >/dev/null
done
