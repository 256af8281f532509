#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A full /dev/shm, in a mount namespace of its own, disturbs nobody: shared memory comes from memfds.
set -u
sennit=${SENNIT:-build/sennit}
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }
command -v unshare >/dev/null || { echo "unshare is not installed (util-linux): skipped"; exit 77; }
how=(unshare --mount)
[ "$(id -u)" -eq 0 ] || how=(unshare --user --map-root-user --mount)
"${how[@]}" mount -t tmpfs -o size=4k tmpfs /dev/shm 2>/dev/null ||
	{ echo "no mount namespace can be made here: skipped"; exit 77; }

# shellcheck disable=SC2016  # the inner shell expands them
"${how[@]}" bash -c '
	mount -t tmpfs -o size=4k tmpfs /dev/shm || exit 99
	head -c 4096 /dev/zero >/dev/shm/full || exit 99
	head -c 4096 /dev/zero 2>/dev/null >/dev/shm/more && { echo "/dev/shm is not full"; exit 99; }
	timeout 60 "$1" perf allreduce --ranks 3 --transport shm --max 4M --factor 64 --iterations 5 >/dev/null
' bash "$sennit"
status=$?
[ $status -eq 0 ] || echo "allreduce over shared memory with a full /dev/shm ends with $status"
exit $status
