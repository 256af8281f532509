# SPDX-License-Identifier: BSD-3-Clause
"""The table for people, JSON and CSV for programs."""
import csv
import json

from comparing import rows as rows_


def us(time):
    return "-" if time is None else f"{time:.2f}" if time < 1000 else f"{time:.0f}"


def ratio(number):
    return "-" if number is None else f"{number:.2f}"


def per_cent(number):
    return "-" if number is None else f"{100 * number:.0f} %"


def cores(one):
    return "-" if one.near_ns is None else f"{one.placement} {one.near_ns:.0f} ns"


def how(options):
    words = ["in place" if options.in_place else "out of place",
             "input just written" if options.dirty else "input old"]
    return ", ".join(words + ["sennit in snt_alloc memory"] * options.shared)


def title_lines(collective, options, facts):
    """What was measured where and when, and how."""
    return (f"{collective}, {options.scenario.title} ({options.scenario.name}), {facts['date'][:10]}",
            f"float32 sum, {how(options)}, rounds in turns: {facts['rounds']}")


def known_bounds(summary):
    return [bound for bound in rows_.BOUNDS if any(bound in one.bounds for one in summary)]


def cells(one, names, bounds):
    left = [str(one.bytes)] + [us(one.us.get(name)) for name in names]
    shares = [cell for bound in bounds for cell in (us(one.bounds.get(bound)), per_cent(one.shares.get(bound)))]
    return left + [one.best or "-", ratio(one.ratio)] + shares + [cores(one)]


def foot(own, names, bounds):
    mean = rows_.means(own)
    middle = [ratio(mean["peers"].get(name)) if name != "sennit" else "" for name in names]
    shares = [cell for bound in bounds for cell in ("", per_cent(mean[bound]))]
    return ["mean ratio"] + middle + ["", ratio(mean["best"])] + shares + [""]


def table(own, names):
    bounds = known_bounds(own)
    head = ["bytes"] + [f"{name} us" for name in names] + ["best", "best/ours"]
    head += [cell for bound in bounds for cell in (f"{bound} us", f"of {bound}")] + ["cores"]
    body = [head] + [cells(one, names, bounds) for one in own] + [foot(own, names, bounds)]
    widths = [max(len(line[column]) for line in body) for column in range(len(head))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in body]


def show(summary, names, options, facts):
    for collective, own in rows_.by_collective(summary).items():
        print("\n# " + "\n# ".join(title_lines(collective, options, facts)))
        print("\n".join(table(own, names)))


def show_notes(summary, names, versions, facts):
    print("\n# best/ours above 1: sennit is faster than the best of the others; mean ratio: geometric,")
    print("# of a peer's time and ours; cores: one way of a cache line between two of them")
    for bound in known_bounds(summary):
        print(f"# {bound}: {rows_.BOUNDS[bound]}; of {bound}: that over our time")
    for name in names:
        print(f"# {name}: {versions[name]}")
    for size, own in rows_.grouped(facts.get("rates", []), lambda rate: rate["bytes"]).items():
        rates = ", ".join(f"{rate['name']} {rate['gbps']:.1f} GB/s ({rate['threads']} threads)" for rate in own)
        print(f"# {size} bytes: {rates}")


def record(one):
    """What JSON calls it: limit_us and share, copied_us and copied_share, ..; null without --limits."""
    plain = {name: value for name, value in one._asdict().items() if name not in ("bounds", "shares")}
    for bound in rows_.BOUNDS:
        plain[f"{bound}_us"] = one.bounds.get(bound)
        plain["share" if bound == "limit" else f"{bound}_share"] = one.shares.get(bound)
    return plain


def write_json(path, facts, rows, summary, warnings):
    means = {collective: rows_.means(own) for collective, own in rows_.by_collective(summary).items()}
    data = {"schema": "sennit-compare-1", "environment": facts,
            "summary": [record(one) for one in summary], "means": means, "warnings": warnings,
            "rows": rows}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.write("\n")


def write_csv(path, names, summary):
    with open(path, "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["collective", "bytes", *(f"{name}_us" for name in names), "best", "best_over_ours",
                      *(name for bound in rows_.BOUNDS for name in (f"{bound}_us", f"share_of_{bound}")),
                      "placement", "near_ns"])
        for one in summary:
            out.writerow([one.collective, one.bytes, *(one.us.get(name) for name in names), one.best,
                          one.ratio, *(numbers.get(bound) for bound in rows_.BOUNDS
                                       for numbers in (one.bounds, one.shares)), one.placement, one.near_ns])
