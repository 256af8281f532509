#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What NCCL's profiler writes is JSON, line by line, and OpenMetrics, whole and exact, for readers who know the formats.
set -u
sennit=${SENNIT:-build/sennit}
plugin=$(dirname "$sennit")/.libs/libnccl-net-sennit.so
[ -e "$plugin" ] || { echo "$plugin is not built"; exit 99; }
command -v python3 >/dev/null || { echo "skipped: python3 is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# profile FORMAT SCENARIO: two processes, a file each
profile() {
	mkdir "$work/$1"
	SNT_PROFILE="$work/$1/%h.%p.%r.100%%" SNT_PROFILE_FORMAT=$1 "$sennit" nccl-check --plugin "$plugin" --kind profiler \
		--scenario "$2" --version 6 >"$work/log" 2>&1 || { cat "$work/log"; bad=1; }
	find "$work/$1" -type f | sort
}
mapfile -t json < <(profile json stream)
mapfile -t metrics < <(profile openmetrics metrics)
[ "${#json[@]} ${#metrics[@]}" = "2 2" ] || { echo "files: ${json[*]} ${metrics[*]}"; exit 1; }
for rank in 0 1; do
	compgen -G "$work/json/*.$rank.100%" >/dev/null || { echo "no file of rank $rank: ${json[*]}"; bad=1; }
done

python3 - "${json[@]}" <<'END' || bad=1
import json, sys
for path in sys.argv[1:]:
    lines = [json.loads(line) for line in open(path)]
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "begin" and kinds[-1] == "end" and kinds.count("transfers") == 6, kinds
    assert all(line["comm"] == "0x0000000000000abc" and line["comm_name"] == 'a "name" \\ ?' for line in lines), lines[0]
    assert lines[0]["ranks"] == 4 and lines[0]["nodes"] == 2, lines[0]
    assert lines[0]["time"] > 1700000000 and lines[-1]["duration_ns"] > 0
    assert [line["operations"] for line in lines if line["type"] == "operations"] == [{"AllReduce": 2}], lines
    for line in lines:
        if line["type"] != "transfers":
            continue
        assert sum(line["transfer_us"].values()) == line["messages"], line
        causes = ["gpu_ns", "peer_ns", "wire_ns"] if line["direction"] == "send" else ["gpu_ns", "data_ns", "flush_ns"]
        waits = {cause: line[cause] for cause in causes}
        assert sum(waits.values()) <= line["interval_ns"], line
        names = {"gpu_ns": "gpu-late", "peer_ns": "peer-late", "wire_ns": "wire-slow", "data_ns": "data-late",
                 "flush_ns": "flush-slow"}
        most = max(waits, key=waits.get)
        expected = names[most] if waits[most] * 2 >= sum(waits.values()) else "mixed"
        assert line["verdict"] == expected, line
END

python3 - "${metrics[@]}" <<'END' || bad=1
import re, sys
from fractions import Fraction
name = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
sample = re.compile(r'(%s)\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\} ([0-9.]+)$' % name)
suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}
for path in sys.argv[1:]:
    text = open(path).read()
    assert text.endswith("\n# EOF\n") and text.count("# EOF") == 1
    family = kind = None
    seen, families, values = set(), set(), {}
    for line in text.splitlines()[:-1]:
        if line.startswith("# TYPE "):
            family, kind = line.split()[2:]
            assert family not in families and kind in suffixes, line
            families.add(family)
            continue
        if line.startswith("#"):
            word = line.split()
            assert word[1] in ("UNIT", "HELP") and word[2] == family, line
            assert word[1] == "HELP" or family.endswith("_" + word[3]), line
            continue
        match = sample.match(line)
        assert match, line
        assert match[1] in [family + suffix for suffix in suffixes[kind]], line
        assert (match[1], match[2]) not in seen, line
        seen.add((match[1], match[2]))
        labels = dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2]))
        values.setdefault(match[1], []).append((labels, Fraction(match[3])))
    def total(metric, **wanted):
        return sum(v for l, v in values[metric] if all(l.get(k) == w for k, w in wanted.items()))
    assert total("sennit_nccl_messages_total") == 70
    assert total("sennit_nccl_transferred_bytes_total", direction="send", nic="3") == 2 * 20190
    assert total("sennit_nccl_lost_total") == 0
    assert values["sennit_nccl_communicator_info"][0][0]["comm_name"] == r'a \"name\" \\ ?'
    counts = {}
    for labels, value in values["sennit_nccl_transfer_seconds_bucket"]:
        bound = labels.pop("le")
        key = tuple(sorted(labels.items()))
        last = counts.setdefault(key, [(-1.0, 0)])
        assert float(bound) > last[-1][0] and value >= last[-1][1], (key, bound)
        last.append((float(bound), value))
    for labels, value in values["sennit_nccl_transfer_seconds_count"]:
        assert counts[tuple(sorted(labels.items()))][-1] == (float("inf"), value)
    print(len(seen), "samples of", len(families), "metrics")
END
exit $bad
