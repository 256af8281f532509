# SPDX-License-Identifier: BSD-3-Clause
"""Builds the back ends, lets them take turns, and reports."""
import contextlib
import sys

from comparing import build, hosts, launch, machine, options as options_, peers, picture, report
from comparing import rows as rows_


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def wanted(options):
    found = [peers.PEERS[name] for name in options.peers]
    return found + (peers.limits(options.scenario, options.in_place) if options.limits else [])


def built(options):
    """[(peer, program)] of those that can be had here."""
    found = []
    for peer in wanted(options):
        missing = peers.lacking(peer)
        if missing:
            say(f"{peer.title} is left out; Debian packages: {' '.join(missing)}")
            continue
        try:
            found.append((peer, build.back_end(peer, options)))
        except build.Failure as failure:
            say(f"{peer.title} is left out: {failure}")
    return found


def rotated(pairs, round_):
    first = round_ % len(pairs)
    return pairs[first:] + pairs[:first]


def take_turn(peer, program, options, net, round_):
    """(name, rows) of one back end in one round."""
    name, rows = launch.run(peer, program, options, net)
    for row in rows:
        row.update(peer=peer.name, kind=peer.kind, round=round_ + 1)
    return name, rows


def measure(pairs, options, net):
    """(versions, rows, names of those that failed)"""
    versions, rows, failed = {}, [], set()
    for round_ in range(options.rounds):
        for peer, program in rotated(pairs, round_):
            if peer.name in failed:
                continue
            say(f"round {round_ + 1} of {options.rounds}: {peer.title}")
            try:
                versions[peer.name], own = take_turn(peer, program, options, net, round_)
            except launch.Failure as failure:
                say(f"{peer.title} failed and is left out from now on: {failure}")
                failed.add(peer.name)
            else:
                rows += own
    return versions, rows, failed


def write(options, facts, versions, rows, summary, names):
    warnings = rows_.warnings(rows, summary)
    if options.json:
        report.write_json(options.json, facts, versions, rows, summary, warnings)
    if options.csv:
        report.write_csv(options.csv, names, summary)
    if options.svg:
        picture.write(options.svg, summary, names, options, facts)
    for warning in warnings:
        say(f"warning: {warning}")


def run(options, facts):
    pairs = built(options)
    if not pairs:
        say("nothing to measure")
        return 1
    with hosts.made(options.scenario) if options.scenario.hosts else contextlib.nullcontext() as net:
        versions, rows, failed = measure(pairs, options, net)
    summary = rows_.lines(rows)
    names = [peer.name for peer, _ in pairs if peer.kind != "limit" and peer.name in versions]
    report.show(summary, names, options, facts)
    for name in names:
        print(f"# {name}: {versions[name]}")
    write(options, facts, versions, rows, summary, names)
    is_ours_missing = "sennit" in options.peers and ("sennit" in failed or "sennit" not in versions)
    return 1 if is_ours_missing or any(row["wrong"] for row in rows) else 0


def main(arguments):
    options = options_.parse(arguments)
    try:
        return run(options, machine.facts(options, arguments))
    except hosts.Failure as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
