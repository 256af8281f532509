# SPDX-License-Identifier: BSD-3-Clause
"""Compiles the back ends, all with the same options, and again only when a source is newer or the command another."""
import os
import subprocess

FLAGS = ["-O3", "-march=native", "-g"]


class Failure(Exception):
    """A back end that cannot be had."""


def is_fresh(target, words, sources):
    """@words: a kept folder may have been used with another build of sennit."""
    try:
        made = os.path.getmtime(target)
        with open(target + ".command", encoding="utf-8") as file:
            before = file.read()
    except OSError:
        return False
    return before == " ".join(words) and all(os.path.getmtime(source) <= made for source in sources)


def compile_to(target, words, sources):
    if is_fresh(target, words, sources):
        return
    done = subprocess.run(words + ["-o", target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode:
        raise Failure(f"{os.path.basename(words[0])} failed:\n{done.stdout}")
    with open(target + ".command", "w", encoding="utf-8") as file:
        file.write(" ".join(words))


def libraries(peer, options):
    if peer.kind == "ours":
        folder = os.path.join(options.build, ".libs")
        if not os.path.exists(os.path.join(folder, "libsennit.so")):
            raise Failure(f"no libsennit.so in {folder}; ./quickstart build makes it")
        return ["-L" + folder, "-lsennit", "-Wl,-rpath," + folder]
    return ["-lgloo", "-lpthread"] if peer.name == "gloo" else []


def back_end(peer, options):
    """Path of the program for @peer."""
    folder = os.path.join(options.sources, "perf", "peers")
    includes = ["-I" + options.sources, "-I" + os.path.join(options.sources, "include")]
    shared = [os.path.join(folder, name) for name in ("harness.c", "harness.h")]
    own = [os.path.join(folder, name) for name in peer.sources]
    os.makedirs(options.work, exist_ok=True)
    # The harness is C for all, so its object is the same in all.
    harness = os.path.join(options.work, "harness.o")
    compile_to(harness, ["cc", "-c", *FLAGS, "-std=gnu11", *includes, shared[0]], shared)
    program = peer.compiler + "-" + peer.sources[0].split(".")[0]
    target = os.path.join(options.work, program)
    standard = "-std=c++17" if peer.compiler == "g++" else "-std=gnu11"
    compile_to(target, [peer.compiler, *FLAGS, standard, *includes, *own, harness,
                        *libraries(peer, options)], own + [harness])
    return target


def rates(options):
    """Path of the program that says how fast cores copy and add."""
    source = os.path.join(options.sources, "perf", "peers", "rates.c")
    target = os.path.join(options.work, "rates")
    compile_to(target, ["cc", *FLAGS, "-std=gnu11", source, "-lpthread"], [source])
    return target
