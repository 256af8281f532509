# SPDX-License-Identifier: BSD-3-Clause
"""The command line."""
import argparse
import os

from comparing import peers, scenarios

COLLECTIVES = ["allreduce", "reduce_scatter", "allgather", "broadcast", "reduce", "alltoall",
               "gather", "scatter", "barrier"]
SIZES = "8,64,1K,4K,16K,64K,256K,1M,4M,16M,64M"
QUICK_SIZES = "8,1K,16K,256K,4M"
ROUNDS, QUICK_ROUNDS = 5, 2
SECONDS, QUICK_SECONDS = 0.2, 0.05
SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def size(text):
    """'64K' as a number of bytes."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    digits, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    if not digits.isdigit() or not int(digits):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of bytes")
    return int(digits) * unit


def sizes(text):
    found = [size(part) for part in text.split(",")]
    if len(found) > 64:
        raise argparse.ArgumentTypeError("more than 64 sizes")
    return sorted(set(found))


def listed(known):
    """A comma-separated list of some of what is @known, in the order of @known."""
    def parse(text):
        wanted = text.split(",")
        strange = [name for name in wanted if name not in known]
        if strange:
            raise argparse.ArgumentTypeError(f"'{strange[0]}' is none of {', '.join(known)}")
        return [name for name in known if name in wanted]
    return parse


def positive(kind):
    def parse(text):
        try:
            number = kind(text)
        except ValueError:
            number = 0
        if not number > 0:
            raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
        return number
    return parse


def whole(text):
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number")
    return int(text)


def parser():
    make = argparse.ArgumentParser(
        prog="perf/compare", description="Times sennit and other libraries in turns, in each round "
        "all of them with the same sizes, cores and timing code, and prints the median of the rounds.",
        epilog="Bytes are written as 123, 64K or 1M. The hosts scenarios make network namespaces "
        "and need root. SNT_* variables reach sennit.")
    add = make.add_argument
    add("--quick", action="store_true", help=f"few sizes ({QUICK_SIZES}), {QUICK_ROUNDS} short rounds")
    add("--scenario", choices=list(scenarios.SCENARIOS), default="shm2",
        help="ranks, and whether each is a host of its own, linked at 1 Gbit/s or as fast as it goes")
    add("--collectives", type=listed(COLLECTIVES), default=["allreduce"], metavar="LIST",
        help="of " + ", ".join(COLLECTIVES))
    add("--in-place", action="store_true", help="input and output share their memory")
    add("--dirty", action="store_true", help="each input is rewritten by its owner before each iteration")
    add("--shared", action="store_true", help="sennit's buffers come from snt_alloc")
    add("--sizes", type=sizes, metavar="LIST", help=f"bytes of the larger side (default {SIZES})")
    add("--rounds", type=positive(int), metavar="N", help=f"how often all take their turn ({ROUNDS})")
    add("--extra", type=whole, metavar="N", help="how many more rounds at most, as long as lines are "
        "mixed because the cores moved (default: as many again)")
    add("--seconds", type=positive(float), metavar="S", help=f"of each size in each round ({SECONDS})")
    add("--peers", type=listed(list(peers.PEERS)), default=list(peers.PEERS), metavar="LIST",
        help="of " + ", ".join(peers.PEERS))
    add("--limits", action="store_true", help="measure what the machine itself allows as well: "
        "loops without any library and, between 2 ranks over TCP, half a round trip of a plain socket")
    add("--json", metavar="FILE", help="everything: rows of all rounds, environment, summary")
    add("--csv", metavar="FILE", help="the summary, a line for each size")
    add("--svg", metavar="FILE", help="a picture of time over size")
    add("--build", default=os.path.join(SOURCES, "build"), metavar="DIR",
        help="where sennit was built (default build/)")
    add("--work", metavar="DIR", help="where the back ends are built and kept (default DIR/compare)")
    return make


def parse(arguments):
    options = parser().parse_args(arguments)
    quick = options.quick
    options.sizes = options.sizes or sizes(QUICK_SIZES if quick else SIZES)
    options.rounds = options.rounds or (QUICK_ROUNDS if quick else ROUNDS)
    options.extra = options.rounds if options.extra is None else options.extra
    options.seconds = options.seconds or (QUICK_SECONDS if quick else SECONDS)
    options.build = os.path.abspath(options.build)
    options.work = os.path.abspath(options.work or os.path.join(options.build, "compare"))
    options.scenario = scenarios.SCENARIOS[options.scenario]
    options.sources = SOURCES
    return options
