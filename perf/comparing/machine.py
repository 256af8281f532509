# SPDX-License-Identifier: BSD-3-Clause
"""What is known of the machine, the sources and the moment."""
import datetime
import os
import platform
import subprocess


def first_line(path, key):
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith(key):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown"


def revision(sources):
    done = subprocess.run(["git", "-C", sources, "describe", "--always", "--dirty"], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def facts(options, arguments):
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": " ".join(["perf/compare", *arguments]),
        "revision": revision(options.sources),
        "cpu": first_line("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "settings": {name: value for name, value in sorted(os.environ.items())
                     if name.startswith("SNT_") and not name.startswith("SNT_SECRET")},
        "scenario": options.scenario.name,
        "ranks": options.scenario.ranks,
        "link": options.scenario.rate,
        "in_place": options.in_place,
        "dirty": options.dirty,
        "shared": options.shared,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "sizes": options.sizes,
        "collectives": options.collectives,
    }
