#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# perf/compare with whatever libraries are here: right results, a JSON that parses, a picture that is XML;
# and the way from rows to a table on rows that are made up.
set -u
cd "${srcdir:-.}" || exit 99
sennit=${SENNIT:-$PWD/build/sennit}
command -v python3 >/dev/null || { echo "skipped: python3 is not installed"; exit 77; }
command -v cc >/dev/null || { echo "skipped: there is no C compiler"; exit 77; }
# A back end is a program without the sanitizers that the library would want.
[ -z "${NO_PMIX-}" ] || { echo "skipped: not with sanitizers"; exit 77; }
export PYTHONDONTWRITEBYTECODE=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bad=0

complain() {
	echo "$*"
	bad=1
}

# compare ARGUMENT...: into $folder/out and $folder/err
compare() {
	timeout 60 perf/compare --build "$(dirname "$sennit")" --work "$folder/work" "$@" >"$folder/out" 2>"$folder/err"
}

# A set that covers what is not the default as well; one process per rank and library.
compare --rounds 1 --extra 0 --seconds 0.005 --sizes 4K --collectives allreduce,alltoall --dirty --limits \
	--json "$folder/json" --csv "$folder/csv" --svg "$folder/svg" ||
	complain "compare fails with $?: $(cat "$folder/out" "$folder/err")"
python3 - "$folder" <<'END' || complain "what compare wrote is not right: $(cat "$folder/out" "$folder/err")"
import csv, json, sys, xml.etree.ElementTree as tree
folder = sys.argv[1]
data = json.load(open(folder + "/json"))
rows = [row for row in data["rows"] if row["peer"] == "sennit"]
assert data["schema"] == "sennit-compare-1", data["schema"]
assert [(row["collective"], row["bytes"]) for row in rows] == [("allreduce", 4096), ("alltoall", 4096)], rows
assert all(row["wrong"] == 0 and row["median_us"] > 0 and row["iterations"] >= 3 for row in data["rows"])
assert {row["kind"] for row in data["rows"]} >= {"ours", "limit"}, "no limit"
assert data["environment"]["revision"] and data["environment"]["rates"]
lines = list(csv.DictReader(open(folder + "/csv")))
assert len(lines) == len(data["summary"]) == 2 and float(lines[0]["sennit_us"]) > 0, lines
picture = tree.parse(folder + "/svg").getroot()
assert picture.tag == "{http://www.w3.org/2000/svg}svg"
words = " ".join(text.text for text in picture.iter("{http://www.w3.org/2000/svg}text"))
assert "shm2" in words and data["environment"]["date"][:10] in words and "sennit" in words, words
END

# near before far before what there is; medians of rounds; what others used; what is wrong.
python3 - <<'END' || complain "rows are not put together rightly"
import sys
sys.path.insert(0, "perf")
from comparing import report, rows

def row(peer, us, ns, round_, kind="peer", wrong=0, busy=1.0):
    return dict(peer=peer, kind=kind, round=round_, collective="allreduce", bytes=8, median_us=us, wrong=wrong,
                near_before_ns=ns, near_after_ns=ns, busy_s=busy, own_s=1.0, total_s=2.0)

ours = [row("sennit", us, ns, n, "ours") for n, (us, ns) in enumerate([(1, 50), (3, 50), (2, 50), (9, 250)])]
near = [row("a", 8, 52, 1), row("a", 1, 250, 2)]
one, = rows.lines(ours + near + [row("limit-x", 1, 50, 1, "limit")])
assert (one.placement, one.us, one.best, one.ratio, one.shares) == ("near", {"sennit": 2, "a": 8}, "a", 4, {"limit": 0.5}), one
bounds = [row("limit-x", 1, 50, 1, "limit"), row("limit-copied", 1.5, 50, 1, "limit"), row("limit-turns", 0.5, 50, 1, "limit")]
one, = rows.lines(ours + near + bounds)
assert one.shares == {"limit": 0.5, "copied": 0.75, "turns": 0.25}, one
seen = report.record(one)
assert [seen[name] for name in ("limit_us", "share", "copied_us", "copied_share", "turns_us", "turns_share")] == \
       [1, 0.5, 1.5, 0.75, 0.5, 0.25], seen
assert rows.means([one])["turns"] == 0.25
far, = rows.lines(ours + [row("a", 18, 250, 1)])
assert (far.placement, far.us["sennit"], far.ratio) == ("far", 9, 2), far
mixed, = rows.lines(ours[:3] + [row("a", 18, 250, 1)])
assert mixed.placement == "mixed" and rows.are_mixed(ours[:3] + [row("a", 18, 250, 1)]), mixed
assert not rows.are_mixed(ours + near)
both = rows.lines(ours + near + [row("b", 4, 50, 1)])
assert both[0].best == "b" and rows.means(both)["peers"]["a"] == 4
assert rows.warnings([row("a", 1, 50, 1)], both) == []
assert "50 %" in rows.warnings([row("a", 1, 50, 1, busy=2.0)], both)[0]
assert "WRONG" in rows.warnings([row("a", 1, 50, 1, wrong=1)], both)[0]
END

# Half a round trip of a socket, for few bytes alone, beside the limit.
compare --scenario tcp2 --limits --peers sennit --rounds 1 --extra 0 --seconds 0.005 --sizes 8,4K --csv "$folder/csv" ||
	complain "compare over TCP fails with $?: $(cat "$folder/err")"
python3 - "$folder/csv" <<'END' || complain "the bounds over TCP are not right: $(cat "$folder/csv" "$folder/err")"
import csv, sys
small, large = csv.DictReader(open(sys.argv[1]))
assert float(small["turns_us"]) > 0 and float(small["limit_us"]) > 0 and float(large["limit_us"]) > 0
assert large["turns_us"] == "", large
END

if [ "$(id -u)" -eq 0 ] && command -v ip >/dev/null && unshare --net true 2>/dev/null; then
	compare --scenario hosts2-1g --peers sennit --rounds 1 --extra 0 --seconds 0.005 --sizes 4K --csv "$folder/csv"
	status=$?
	if grep -q 'Debian packages are missing' "$folder/err"; then
		echo "no hosts here: $(tail -n 1 "$folder/err")"
	elif [ $status -ne 0 ] || [ "$(wc -l <"$folder/csv")" -ne 2 ]; then
		complain "compare between hosts fails with $status: $(cat "$folder/err")"
	fi
else
	echo "not root, or no network namespaces: nothing was tried between hosts"
fi

compare --peers nonsense && complain "an unknown peer is no failure"
grep -q "'nonsense' is none of" "$folder/err" || complain "an unknown peer is not named: $(cat "$folder/err")"
compare --peers sennit --build "$folder/none" && complain "without sennit compare does not fail"
grep -q 'quickstart build' "$folder/err" || complain "how to build sennit is not said: $(cat "$folder/err")"
exit $bad
