#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A team of three MPI processes sums as MPI itself does.
set -u
examples=${EXAMPLES:-build/examples}

mpirun=$(command -v mpirun.openmpi) || { echo "skipped: Open MPI's mpirun is not installed"; exit 77; }
[ -x "$examples/mpi" ] || { echo "skipped: the MPI example was not built"; exit 77; }

out=$(timeout 120 "$mpirun" --allow-run-as-root --oversubscribe -n 3 "$examples/mpi") ||
	{ echo "mpi: exit $?"; echo "$out"; exit 1; }
echo "$out"
grep -q '^3 ranks: the same [0-9]* sums as MPI_Allreduce$' <<<"$out"
