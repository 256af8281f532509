# SPDX-License-Identifier: BSD-3-Clause
"""Starts the ranks of one back end, ends them all when one fails, and reads the rows."""
import os
import signal
import socket
import subprocess
import tempfile
import time

FIELDS = ["collective", "bytes", "iterations", "median_us", "p99_us", "min_us", "wrong",
          "near_before_ns", "near_after_ns", "busy_s", "own_s", "total_s"]
START_S, CASE_S, PATIENCE = 30, 10, 6


class Job:
    """What a back end's commands are made of."""

    def __init__(self, options, program, hosts, folder, meeting):
        self.options, self.hosts, self.folder = options, hosts, folder
        self.ranks, self.wire = options.scenario.ranks, options.scenario.wire
        self.interface = "eth0" if hosts else "lo"
        cases = len(options.sizes) * len(options.collectives)
        self.limit_s = int(START_S + cases * (CASE_S + PATIENCE * options.seconds))
        self.addresses = hosts.addresses if hosts else [f"127.0.0.{1 + rank}" for rank in range(self.ranks)]
        self.agent = hosts.agent if hosts else None
        self.agent_environment = hosts.agent_environment if hosts else {}
        self.port = free_port()
        self.words = [program, "--meet", meeting, "--ranks", str(self.ranks),
                      "--sizes", ",".join(map(str, options.sizes)),
                      "--collectives", ",".join(options.collectives),
                      "--seconds", str(options.seconds), "--limit", str(self.limit_s)]
        self.words += ["--in-place"] * options.in_place + ["--dirty"] * options.dirty

    def inside(self, rank):
        """What to put before a command so that it runs in the host of @rank."""
        return self.hosts.inside(rank) if self.hosts else []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, output):
    return subprocess.Popen(command.words, stdin=subprocess.DEVNULL, stdout=output,
                            stderr=subprocess.STDOUT, start_new_session=True,
                            env={**os.environ, **command.environment})


def end(processes):
    """Ends what still runs, with all it has started; launchers first get a chance to tidy up."""
    for number, wait_s in ((signal.SIGTERM, 3), (signal.SIGKILL, 3)):
        running = [process for process in processes if process.poll() is None]
        for process in running:
            os.killpg(process.pid, number)
        deadline = time.monotonic() + wait_s
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(0.02)


def wait(processes, limit_s):
    """'' or what went wrong."""
    deadline = time.monotonic() + limit_s
    while True:
        results = [process.poll() for process in processes]
        bad = [result for result in results if result not in (None, 0)]
        if bad:
            return f"exit status {bad[0]}"
        if None not in results:
            return ""
        if time.monotonic() > deadline:
            return f"still running after {limit_s} s"
        time.sleep(0.02)


def parse(text):
    """The peer's name and its rows."""
    name, rows = "", []
    for line in text.splitlines():
        kind, _, rest = line.partition(",")
        if kind == "peer":
            name = " ".join(rest.split())
        elif kind == "row":
            values = rest.split(",")
            row = {field: float(value) for field, value in zip(FIELDS[1:], values[1:])}
            row.update(collective=values[0], bytes=int(row["bytes"]), iterations=int(row["iterations"]),
                       wrong=int(row["wrong"]))
            rows.append(row)
    return name, rows


def complaints(text):
    """The end of what was printed besides rows."""
    return [line for line in text.splitlines() if not line.startswith(("row,", "peer,"))][-8:]


def attend(commands, limit_s, output):
    """Runs @commands to their end; '' or what went wrong."""
    processes = []
    try:
        for command in commands:
            processes.append(start(command, output))
        return wait(processes, limit_s)
    finally:
        end(processes)


def run(peer, program, options, hosts):
    """(name, rows, trouble); rows from before the trouble are good."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="sennit-compare-") as folder, \
            tempfile.NamedTemporaryFile(prefix="sennit-compare-", dir=memory) as meeting, \
            open(os.path.join(folder, "output"), "w+", encoding="utf-8", errors="replace") as output:
        job = Job(options, program, hosts, folder, meeting.name)
        trouble = attend(peer.commands(job), job.limit_s + 10, output)
        output.seek(0)
        text = output.read()
    name, rows = parse(text)
    if not trouble and not name:
        trouble = "no rows"
    return name, rows, "\n    ".join([trouble, *complaints(text)]) if trouble else ""


def rates(program):
    done = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    found = []
    for line in done.stdout.splitlines():
        _, name, threads, size, rate = line.split(",")
        found.append({"name": name, "threads": int(threads), "bytes": int(size), "gbps": float(rate)})
    return found
