# SPDX-License-Identifier: BSD-3-Clause
"""What is set side by side: how each is built, what it needs, how its ranks are started."""
import collections
import os
import secrets
import shutil

Peer = collections.namedtuple("Peer", "name title sources compiler needs commands kind")
# A rank's, or a launcher's, command line and what it adds to the environment.
Command = collections.namedtuple("Command", "words environment")

OPENMPI_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def each_rank(job, words, environment=lambda rank: {}):
    """A command for each rank, in its host."""
    return [Command(job.inside(rank) + words + ["--rank", str(rank)], environment(rank))
            for rank in range(job.ranks)]


def sennit(job):
    secret = secrets.token_hex(16)
    common = {"SNT_SIZE": str(job.ranks), "SNT_ADDRESS": f"{job.addresses[0]}:{job.port}",
              "SNT_SECRET": secret}
    if job.wire == "tcp":
        common["SNT_TRANSPORTS"] = "tcp"   # the namespaces share the memory of one machine
    words = job.words + (["--detail", "shared"] if job.options.shared else [])
    return each_rank(job, words, lambda rank: {**common, "SNT_RANK": str(rank)})


def openmpi(job, layer, shm, tcp):
    words = ["mpirun.openmpi", "-np", str(job.ranks), "--bind-to", "none", *layer]
    if job.ranks > os.cpu_count():
        words += ["--mca", "mpi_yield_when_idle", "1"]
    if job.hosts:
        hosts = ",".join(f"{address}:1" for address in job.addresses)
        words += ["--host", hosts, "--mca", "plm_rsh_agent", job.agent,
                  "--mca", "oob_tcp_if_include", "eth0"]
    else:
        words += ["--oversubscribe"]
    words += tcp if job.wire == "tcp" else shm
    return [Command(job.inside(0) + words + job.words, {**OPENMPI_ROOT, **job.agent_environment})]


def openmpi_ob1(job):
    return openmpi(job, ["--mca", "pml", "ob1"], ["--mca", "btl", "vader,self"],
                   ["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", job.interface])


def openmpi_ucx(job):
    # Without 'any' Open MPI takes its UCX layer only where it sees InfiniBand.
    return openmpi(job, ["--mca", "pml", "ucx", "--mca", "pml_ucx_tls", "any", "--mca", "pml_ucx_devices",
                         "any", "--mca", "osc", "^ucx"],
                   ["-x", "UCX_TLS=self,sysv,posix,cma"],
                   ["-x", "UCX_TLS=tcp,self", "-x", f"UCX_NET_DEVICES={job.interface}"])


def mpich(job):
    words = ["mpiexec.hydra", "-n", str(job.ranks)]
    if job.hosts:
        words += ["-ppn", "1", "-hosts", ",".join(job.addresses), "-launcher", "ssh",
                  "-launcher-exec", job.agent, "-iface", job.interface]
    if job.wire == "tcp":
        words += ["-genv", "MPIR_CVAR_NOLOCAL", "1", "-genv", "UCX_TLS", "tcp,self",
                  "-genv", "UCX_NET_DEVICES", job.interface]
    return [Command(job.inside(0) + words + job.words, job.agent_environment)]


def gloo(job):
    store = os.path.join(job.folder, "store")
    os.makedirs(store)
    return each_rank(job, job.words + ["--detail", f"{job.interface}:{store}"])


def limit(variant):
    def commands(job):
        detail = variant + (":" + ",".join(job.addresses) + f":{job.port}" if job.wire == "tcp" else "")
        return each_rank(job, job.words + ["--detail", detail])
    return commands


PEERS = {peer.name: peer for peer in (
    Peer("sennit", "sennit", ["sennit.c"], "cc", {"gcc": "cc"}, sennit, "ours"),
    Peer("openmpi", "Open MPI", ["mpi.c"], "mpicc.openmpi",
         {"openmpi-bin": "mpirun.openmpi", "libopenmpi-dev": "mpicc.openmpi"}, openmpi_ob1, "peer"),
    Peer("openmpi-ucx", "Open MPI + UCX", ["mpi.c"], "mpicc.openmpi",
         {"openmpi-bin": "mpirun.openmpi", "libopenmpi-dev": "mpicc.openmpi"}, openmpi_ucx, "peer"),
    Peer("mpich", "MPICH", ["mpi.c"], "mpicc.mpich",
         {"mpich": "mpiexec.hydra", "libmpich-dev": "mpicc.mpich"}, mpich, "peer"),
    Peer("gloo", "Gloo", ["gloo.cc"], "g++",
         {"g++": "g++", "libgloo-dev": "/usr/include/gloo/context.h"}, gloo, "peer"),
)}


def limits(scenario, in_place):
    """The bounds that can be taken in this scenario; the least of them is the machine's limit, but for those
    with a name in rows.BOUNDS."""
    if scenario.wire == "tcp":
        variants = ["tcp"] + ["turns"] * (scenario.ranks == 2)
    elif scenario.ranks == 2:
        variants = ["halves", "halves-streaming", "copied"] + ([] if in_place else ["reads"])
    else:
        variants = []
    return [Peer(f"limit-{variant}", f"limit ({variant})", ["limits.c"], "cc", {"gcc": "cc"},
                 limit(variant), "limit") for variant in variants]


def lacking(peer):
    """The Debian packages that are not there."""
    return [package for package, proof in peer.needs.items()
            if not (os.path.exists(proof) if os.path.isabs(proof) else shutil.which(proof))]
