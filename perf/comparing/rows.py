# SPDX-License-Identifier: BSD-3-Clause
"""From the rows of all rounds to one line for each collective and size.

The host of a virtual machine moves its cores near to each other or far apart within seconds, and
shared memory takes two to five times as long when they are far apart. So a line compares rows of
one placement only: near when all have such a row, else far, else all rows there are ('mixed')."""
import collections
import math
import statistics

FAR = 2.2        # times the least latency between the cores that was seen in this run
FAR_NS = 160     # far in any case
SHARED = 6.0     # per cent of the machine that something else used

# What --limits shows. A bound that is named here is shown by itself, "limit" is the least of all others.
BOUNDS = {"limit": "the least time of a loop that uses no library",
          "copied": "the same for vectors that no other rank can map",
          "turns": "half a round trip of as many bytes over a plain socket that spins, up to 1 KiB"}

# us: of each peer; bounds: the time of each bound in us; shares: these over sennit's time.
Line = collections.namedtuple("Line", "collective bytes us bounds best ratio shares placement near_ns")


def grouped(things, key):
    """{key of a thing: [all things with that key]}, in the order of their first."""
    found = {}
    for thing in things:
        found.setdefault(key(thing), []).append(thing)
    return found


def latency(row):
    return max(row["near_before_ns"], row["near_after_ns"])


def least_latency(rows):
    """A low one of all that were measured; the very least may be a slip of the clock."""
    known = sorted(ns for row in rows for ns in (row["near_before_ns"], row["near_after_ns"]) if ns > 0)
    return known[len(known) // 20] if known else 0.0


def place(rows):
    """Adds to each row whether the cores were near to each other around it."""
    least = least_latency(rows)
    for row in rows:
        row["placement"] = "far" if latency(row) > min(FAR * least, FAR_NS) else "near"


def share_of_others(rows):
    """Per cent of the machine that others used during @rows."""
    total = sum(row["total_s"] for row in rows)
    others = sum(row["busy_s"] - row["own_s"] for row in rows)
    return max(0.0, 100 * others / total) if total else 0.0


def by_peer(rows, kinds):
    return grouped([row for row in rows if row["kind"] in kinds], lambda row: row["peer"])


def choose(groups):
    """The placement that all @groups have rows of, and these rows."""
    for placement in ("near", "far"):
        chosen = {peer: [row for row in rows if row["placement"] == placement]
                  for peer, rows in groups.items()}
        if all(chosen.values()):
            return placement, chosen
    return "mixed", groups


def median_us(rows):
    return statistics.median(row["median_us"] for row in rows)


def bounds_us(rows, placement):
    """{bound: the least time of what it is taken from, each the median over its rounds}"""
    found = {}
    for peer, own in by_peer(rows, ("limit",)).items():
        chosen = [row for row in own if placement in ("mixed", row["placement"])]
        name = peer.removeprefix("limit-")
        bound = name if name in BOUNDS else "limit"
        if chosen:
            found[bound] = min(median_us(chosen), found.get(bound, math.inf))
    return found


def line(collective, size, rows):
    placement, chosen = choose(by_peer(rows, ("ours", "peer")))
    us = {peer: median_us(own) for peer, own in chosen.items()}
    ours, bounds = us.get("sennit"), bounds_us(rows, placement)
    others = {peer: time for peer, time in us.items() if peer != "sennit"}
    best = min(others, key=others.get) if others else None
    near = [latency(row) for own in chosen.values() for row in own if latency(row) > 0]
    return Line(collective, size, us, bounds, best, others[best] / ours if best and ours else None,
                {bound: time / ours for bound, time in bounds.items()} if ours else {},
                placement if near else "unknown", statistics.median(near) if near else None)


def lines(rows):
    place(rows)
    cases = grouped(rows, lambda row: (row["collective"], row["bytes"]))
    return [line(collective, size, own) for (collective, size), own in cases.items()]


def are_mixed(rows):
    """Whether some line compares what was taken in different placements."""
    return any(one.placement == "mixed" for one in lines(rows))


def mean_ratio(ratios):
    ratios = [ratio for ratio in ratios if ratio]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


def means(own):
    """Geometric means over the sizes of one collective: each peer's time over ours, the best's, the bounds'."""
    peers = {peer: None for one in own for peer in one.us if peer != "sennit"}
    for peer in peers:
        peers[peer] = mean_ratio(one.us[peer] / one.us["sennit"] for one in own
                                 if peer in one.us and "sennit" in one.us)
    return {"peers": peers, "best": mean_ratio(one.ratio for one in own),
            **{bound: mean_ratio(one.shares.get(bound) for one in own) for bound in BOUNDS}}


def by_collective(summary):
    return grouped(summary, lambda one: one.collective)


def warnings(rows, summary):
    found = []
    for (peer, round_), own in grouped(rows, lambda row: (row["peer"], row["round"])).items():
        others = share_of_others(own)
        if others > SHARED:
            found.append(f"round {round_}, {peer}: something else used {others:.0f} % of the machine")
    wrong = sorted({f"{row['peer']} {row['collective']} {row['bytes']} bytes" for row in rows if row["wrong"]})
    found += [f"WRONG RESULTS: {case}" for case in wrong]
    far = sum(one.placement == "far" for one in summary)
    mixed = sum(one.placement == "mixed" for one in summary)
    if far or mixed:
        found.append(f"the cores were far apart: {far} lines compare far rows, {mixed} mixed ones")
    return found
