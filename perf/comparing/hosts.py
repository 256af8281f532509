# SPDX-License-Identifier: BSD-3-Clause
"""Hosts that are network namespaces of this machine, joined by a bridge; made and removed here."""
import contextlib
import os
import shutil
import subprocess

SUBNET = "10.99.0."
AGENT = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "peers", "namespace-shell")
# Its own name in each: libraries tell hosts apart by it.
ENTER = 'hostname "$0" && exec "$@"'
BURST, LATENCY = "128kb", "20ms"   # with less than this burst, tbf does not reach 1 Gbit/s
BUFFERS = "4096 131072 33554432"


class Failure(Exception):
    """Namespaces that cannot be made."""


class Hosts:
    """Their addresses and how to get in."""

    def __init__(self, count):
        self.prefix = f"sennit-{os.getpid()}-"
        self.addresses = [f"{SUBNET}{rank + 1}" for rank in range(count)]
        self.agent = AGENT
        self.agent_environment = {"COMPARE_NAMESPACES": self.prefix}
        self.bridge = self.prefix + "switch"

    def name(self, rank):
        return f"{self.prefix}{rank}"

    def inside(self, rank):
        name = self.name(rank)
        return ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", ENTER, name]


def run(*words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Failure(f"'{' '.join(words)}' failed: {done.stdout.strip()}")


def within(namespace, text):
    run("ip", "netns", "exec", namespace, *text.split())


def make_switch(hosts):
    run("ip", "netns", "add", hosts.bridge)
    within(hosts.bridge, "ip link add bridge type bridge")
    within(hosts.bridge, "ip link set bridge up")


def make_host(hosts, rank):
    name = hosts.name(rank)
    run("ip", "netns", "add", name)
    run("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"port{rank}",
        "netns", hosts.bridge)
    within(name, "ip link set lo up")
    within(name, f"ip address add {hosts.addresses[rank]}/24 dev eth0")
    within(name, "ip link set eth0 up")
    within(hosts.bridge, f"ip link set port{rank} master bridge")
    within(hosts.bridge, f"ip link set port{rank} up")


def tune(name):
    """The same everywhere, whatever this machine prefers."""
    within(name, "sysctl -qw net.ipv4.tcp_congestion_control=reno")
    for setting in ("tcp_rmem", "tcp_wmem"):
        run("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv4.{setting}={BUFFERS}")


def shape(hosts, rank, rate):
    """What a host sends is limited at its end of the link, what it receives at the other."""
    limit = f"root tbf rate {rate} burst {BURST} latency {LATENCY}"
    within(hosts.name(rank), f"tc qdisc add dev eth0 {limit}")
    within(hosts.bridge, f"tc qdisc add dev port{rank} {limit}")


def greet(hosts):
    """Until the links are up and all have found each other."""
    for rank in range(len(hosts.addresses)):
        for address in hosts.addresses:
            within(hosts.name(rank), f"ping -q -c 1 -W 3 {address}")


def check_means():
    if os.geteuid() != 0:
        raise Failure("the hosts scenarios make network namespaces, which only root may")
    needs = {"ip": "iproute2", "tc": "iproute2", "ping": "iputils-ping", "sysctl": "procps",
             "unshare": "util-linux", "hostname": "hostname"}
    missing = {package for program, package in needs.items() if not shutil.which(program)}
    if missing:
        raise Failure(f"Debian packages are missing: {' '.join(sorted(missing))}")


def remove(hosts):
    for name in [hosts.name(rank) for rank in range(len(hosts.addresses))] + [hosts.bridge]:
        subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)


@contextlib.contextmanager
def made(scenario):
    check_means()
    hosts = Hosts(scenario.ranks)
    try:
        make_switch(hosts)
        for rank in range(scenario.ranks):
            make_host(hosts, rank)
            tune(hosts.name(rank))
            if scenario.rate:
                shape(hosts, rank, scenario.rate)
        greet(hosts)
        yield hosts
    finally:
        remove(hosts)
