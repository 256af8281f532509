# SPDX-License-Identifier: BSD-3-Clause
"""Builds the back ends, lets them take turns, and reports."""
import contextlib
import signal
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
    """(name, rows, trouble) of one back end in one round."""
    say(f"round {round_ + 1}: {peer.title}")
    name, rows, trouble = launch.run(peer, program, options, net)
    for row in rows:
        row.update(peer=peer.name, kind=peer.kind, round=round_ + 1)
    if trouble:
        say(f"{peer.title} failed and is left out from now on: {trouble}")
    return name, rows, trouble


def measure(pairs, options, net):
    """(versions, rows, troubles)"""
    versions, rows, troubles = {}, [], {}
    for round_ in range(options.rounds + options.extra):
        if round_ >= options.rounds and not rows_.are_mixed(rows):
            break
        for peer, program in rotated(pairs, round_):
            if peer.name in troubles:
                continue
            name, own, trouble = take_turn(peer, program, options, net, round_)
            rows += own
            if name:
                versions[peer.name] = name
            if trouble:
                troubles[peer.name] = trouble
    return versions, rows, troubles


def machine_rates(options):
    """What the cores do without any collective."""
    try:
        program = build.rates(options)
    except build.Failure as failure:
        say(str(failure))
        return []
    say("rates of copying and adding")
    return launch.rates(program)


def write(options, facts, versions, rows, summary, names):
    found = rows_.warnings(rows, summary)
    facts["versions"] = versions
    if options.json:
        report.write_json(options.json, facts, rows, summary, found)
    if options.csv:
        report.write_csv(options.csv, names, summary)
    if options.svg:
        picture.write(options.svg, summary, names, options, facts)
    for warning in found:
        say(f"warning: {warning}")


def conclude(pairs, options, facts, versions, rows):
    summary = rows_.lines(rows)
    names = [peer.name for peer, _ in pairs if peer.kind != "limit" and peer.name in versions]
    report.show(summary, names, options, facts)
    report.show_notes(summary, names, versions, facts)
    write(options, facts, versions, rows, summary, names)


def run(options, facts):
    pairs = built(options)
    if not pairs:
        say("nothing to measure")
        return 1
    if options.limits:
        facts["rates"] = machine_rates(options)
    with hosts.made(options.scenario) if options.scenario.hosts else contextlib.nullcontext() as net:
        versions, rows, troubles = measure(pairs, options, net)
    facts.update(rounds=max((row["round"] for row in rows), default=0), failed=troubles)
    conclude(pairs, options, facts, versions, rows)
    is_ours_missing = "sennit" in options.peers and ("sennit" in troubles or "sennit" not in versions)
    return 1 if is_ours_missing or any(row["wrong"] for row in rows) else 0


def stop(_number, _frame):
    raise KeyboardInterrupt


def main(arguments):
    options = options_.parse(arguments)
    signal.signal(signal.SIGTERM, stop)   # so that ranks and namespaces go with this program
    try:
        return run(options, machine.facts(options, arguments))
    except hosts.Failure as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
