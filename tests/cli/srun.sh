#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# sennit perf inside srun of a real Slurm, two nodes on this machine: --mpi=pmi2, pmix, and none with a secret.
# All of it lives in namespaces of its own, so that nothing is left when the first process there ends.
set -eu
sennit=$(realpath "${SENNIT:-build/sennit}")

skip() { echo "skipped: $1"; exit 77; }

stop() {
	if [ -n "$child" ]; then
		kill "$child" 2>/dev/null || true
		wait "$child" || true
	fi
	rm -rf "$work"
}

outside() {
	for need in munged:munge slurmctld:slurmctld slurmd:slurmd srun:slurm-client ip:iproute2 unshare:util-linux; do
		command -v "${need%:*}" >/dev/null || skip "no ${need%:*} (package ${need#*:})"
	done
	[ "$(id -u)" = 0 ] || skip "Slurm's daemons need root"
	unshare --mount --uts --net --pid --fork true 2>/dev/null || skip "namespaces are refused here"
	work=$(mktemp -d)
	child=
	trap stop EXIT
	trap 'exit 1' INT TERM
	chmod 755 "$work"
	timeout -k 1 56 unshare --mount --uts --net --ipc --pid --fork --kill-child --mount-proc bash "$0" inside "$work" &
	child=$!
	status=0
	wait "$child" || status=$?
	child=
	[ $status -lt 124 ] || echo "srun: not done in 56 s"
	exit $status
}

configure() {
	head -c 128 /dev/urandom >"$work/key"
	chmod 600 "$work/key"
	mkdir "$work/state" "$work/spool.n1" "$work/spool.n2"
	printf '127.0.0.1 localhost\n10.77.0.1 n1\n10.77.0.2 n2\n' >"$work/hosts"
	cat >"$work/slurm.conf" <<-END
		ClusterName=test
		SlurmctldHost=n1(10.77.0.1)
		AuthType=auth/munge
		AuthInfo=socket=$work/munge
		CredType=cred/munge
		SlurmUser=root
		SlurmdUser=root
		StateSaveLocation=$work/state
		SlurmdSpoolDir=$work/spool.%n
		SlurmctldPidFile=$work/slurmctld.pid
		SlurmdPidFile=$work/slurmd.%n.pid
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		JobAcctGatherType=jobacct_gather/none
		SchedulerType=sched/builtin
		SelectType=select/cons_tres
		SelectTypeParameters=CR_CPU
		SwitchType=switch/none
		MpiDefault=none
		SlurmdParameters=config_overrides
		NodeName=n1 NodeAddr=10.77.0.1 Port=6818 CPUs=4
		NodeName=n2 NodeAddr=10.77.0.2 Port=6828 CPUs=4
		PartitionName=all Nodes=n[1-2] Default=YES State=UP OverSubscribe=YES
	END
}

start_slurm() {
	hostname n1
	ip link set lo up
	ip link add net0 type veth peer name net1 2>/dev/null || skip "no veth network interfaces"
	ip addr add 10.77.0.1/24 dev net0
	ip addr add 10.77.0.2/24 dev net0
	ip link set net0 up
	ip link set net1 up
	mount --bind "$work/hosts" /etc/hosts
	export SLURM_CONF=$work/slurm.conf
	munged --foreground --force --key-file="$work/key" --socket="$work/munge" --pid-file="$work/munge.pid" \
		--log-file="$work/munge.log" --seed-file="$work/munge.seed" >"$work/log.munged" 2>&1 &
	for _ in $(seq 100); do if [ -S "$work/munge" ]; then break; fi; sleep 0.05; done
	slurmctld -D -i >"$work/log.slurmctld" 2>&1 &
	slurmd -D -N n1 >"$work/log.slurmd.n1" 2>&1 &
	unshare --uts sh -c 'hostname n2; exec slurmd -D -N n2' >"$work/log.slurmd.n2" 2>&1 &
	for _ in $(seq 100); do
		if [ "$(timeout 5 sinfo -h -t idle -o %D 2>/dev/null)" = 2 ]; then return 0; fi
		sleep 0.1
	done
	tail -n 5 "$work"/log.* /dev/null
	skip "no node of Slurm gets idle"
}

check() {  # NAME RANKS: the output is a table of that many ranks without a wrong element
	grep -qE '^# +ranks +'"$2"'$' "$work/out" || { echo "$1: not $2 ranks"; cat "$work/out" "$work/err"; exit 1; }
	awk '/^ +[0-9]/ { rows++; bad += $NF } END { exit !(rows == 9 && bad == 0) }' "$work/out" ||
		{ echo "$1: wrong table"; cat "$work/out" "$work/err"; exit 1; }
	echo "$1: ok"
}

perf() {  # NAME SRUN-OPTION...
	local name=$1 status=0
	shift
	timeout -k 1 20 srun -n 4 "$@" "$sennit" perf allreduce --max 1M --check --iterations 3 >"$work/out" 2>"$work/err" || status=$?
	[ $status = 0 ] || { echo "$name: srun exited with $status"; cat "$work/out" "$work/err"; exit 1; }
	check "$name" 4
}

inside() {
	# What another Slurm or launcher around this test says is not for the one in here.
	for name in "${!SLURM@}" "${!SBATCH@}" "${!PMI@}" "${!SNT_@}"; do unset "$name"; done
	export SNT_STARTUP_TIMEOUT=15000
	configure
	start_slurm
	cd "$work"
	perf '--mpi=pmi2' -N 1 --mpi=pmi2
	perf '--mpi=pmi2, two nodes' -N 2 --mpi=pmi2
	SNT_TRANSPORTS=tcp perf '--mpi=pmi2, two nodes, tcp' -N 2 --mpi=pmi2
	# One node only: two servers of PMIx on one machine are in each other's way.
	if [ -z "${NO_PMIX-}" ] && srun --mpi=list 2>&1 | grep -qw pmix; then
		perf '--mpi=pmix' -N 1 --mpi=pmix
	fi
	SNT_SECRET=only-for-this-test-run perf '--mpi=none, SNT_SECRET' -N 1 --mpi=none
	head -c 32 /dev/urandom | od -An -vtx1 >secret
	chmod 600 secret
	SNT_SECRET_FILE=$work/secret perf '--mpi=none, SNT_SECRET_FILE, two nodes' -N 2 --mpi=none
	if timeout -k 1 20 srun -n 2 --mpi=none "$sennit" perf allreduce --max 8 >out 2>err; then
		echo "--mpi=none without a secret: let everybody in"; exit 1
	fi
	grep -q 'srun --mpi=pmi2' err || { echo "--mpi=none without a secret: no advice"; cat err; exit 1; }
	printf 'n2\nn1\n' >hosts.rank0_is_second
	if SNT_SECRET=only-for-this-test-run SNT_STARTUP_TIMEOUT=1000 SLURM_HOSTFILE=$work/hosts.rank0_is_second \
		timeout -k 1 20 srun -n 2 -m arbitrary "$sennit" perf allreduce --max 8 >out 2>err; then
		echo "--mpi=none, rank 0 on the second node: started though the others look for it on the first"; exit 1
	fi
	grep -q 'rank 0 on another host' err || { echo "--mpi=none, rank 0 on the second node: no advice"; cat err; exit 1; }
	# The script of a batch job has SLURM_PROCID and SLURM_NTASKS=4, but is one process.
	printf '#!/bin/sh\n%s perf allreduce --max 1M --iterations 3\n' "$sennit" >batch.sh
	timeout -k 1 20 sbatch -n 4 --wait -o out batch.sh >err 2>&1 || { echo "sbatch: failed"; cat out err; exit 1; }
	check 'batch script' 1
}

case ${1-} in
inside) work=$2; inside ;;
*) outside ;;
esac
