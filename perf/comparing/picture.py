# SPDX-License-Identifier: BSD-3-Clause
"""A picture of time over size, both logarithmic: a panel for each collective, SVG that needs nothing else."""
import math
from xml.sax.saxutils import escape

from comparing import peers, report
from comparing import rows as rows_

WIDTH, PANEL, HEAD, FOOT = 900, 420, 64, 24      # of the picture, a panel, its head; in points
LEFT, RIGHT, TOP, BOTTOM = 84, 700, 24, 364      # the axes within a panel
# Okabe and Ito's colours, told apart by the colour-blind too, and a mark of its own for each.
LOOKS = {
    "sennit": ("#D55E00", "circle"), "openmpi": ("#0072B2", "square"),
    "openmpi-ucx": ("#56B4E9", "triangle"), "mpich": ("#009E73", "diamond"),
    "gloo": ("#CC79A7", "cross"),
}
LIMIT = ("#000000", None)
STYLE = """<style>
text { font: 13px sans-serif; fill: #222 }
.title { font-size: 15px; font-weight: bold }
.grid { stroke: #ddd; stroke-width: 1 }
.axis { stroke: #444; stroke-width: 1; fill: none }
.curve { stroke-width: 2; fill: none; stroke-linejoin: round }
</style>"""


def title_of(name):
    return peers.PEERS[name].title if name in peers.PEERS else name


def bytes_text(number):
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:g} {unit}"
    return f"{number:g} B"


def time_text(us):
    for unit, size in (("s", 1e6), ("ms", 1e3), ("µs", 1)):
        if us >= size:
            return f"{us / size:g} {unit}"
    return f"{us:g} µs"


class Scale:
    """From a value to a place, logarithmic, between two powers of the base."""

    def __init__(self, values, base, begin, end):
        self.base = base
        self.first = math.floor(math.log(min(values), base) + 1e-9)
        self.last = max(math.ceil(math.log(max(values), base) - 1e-9), self.first + 1)
        self.begin, self.end = begin, end

    def place(self, value):
        share = (math.log(value, self.base) - self.first) / (self.last - self.first)
        return self.begin + share * (self.end - self.begin)

    def ticks(self):
        return [self.base ** power for power in range(self.first, self.last + 1)]


def mark(shape, x, y, colour):
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    if shape == "cross":
        return (f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{colour}" '
                'stroke-width="2" fill="none"/>')
    outlines = {"square": "m-4 -4h8v8h-8z", "triangle": "m0 -5l5 9h-10z", "diamond": "m0 -5l5 5l-5 5l-5 -5z"}
    return f'<path d="M{x:.1f} {y:.1f}{outlines[shape]}" fill="{colour}"/>'


def text(x, y, words, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def curve(points, look):
    colour, shape = look
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = "" if shape else ' stroke-dasharray="6 4"'
    drawn = [f'<polyline class="curve" stroke="{colour}" points="{path}"{dash}/>']
    return drawn + [mark(shape, x, y, colour) for x, y in points if shape]


def legend(curves):
    drawn = []
    for i, (words, look, _) in enumerate(curves):
        y = TOP + 16 + 24 * i
        drawn += curve([(RIGHT + 22, y), (RIGHT + 52, y)], look)
        drawn.append(text(RIGHT + 60, y + 4, words))
    return drawn


def axes(across, up):
    drawn = []
    for value in across.ticks()[::2]:
        x = across.place(value)
        drawn.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{BOTTOM}"/>')
        drawn.append(text(x, BOTTOM + 20, bytes_text(value), "middle"))
    for value in up.ticks():
        y = up.place(value)
        drawn.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}"/>')
        drawn.append(text(LEFT - 8, y + 4, time_text(value), "end"))
    drawn.append(f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>')
    return drawn


def curves_of(own, names):
    """[(legend, look, [(bytes, us)])], the limit last."""
    found = [(title_of(name), LOOKS[name], [(one.bytes, one.us[name]) for one in own if name in one.us])
             for name in names]
    found.append(("the machine's limit", LIMIT, [(one.bytes, one.bounds["limit"]) for one in own if "limit" in one.bounds]))
    return [curve_ for curve_ in found if curve_[2]]


def panel(own, names):
    curves = curves_of(own, names)
    values = [us for _, _, points in curves for _, us in points]
    # A barrier has no bytes, and its one place is anywhere.
    across = Scale([max(one.bytes, 1) for one in own], 4, LEFT + 10, RIGHT - 10)
    up = Scale(values, 10, BOTTOM, TOP)
    drawn = axes(across, up)
    for _, look, points in curves:
        drawn += curve([(across.place(max(size, 1)), up.place(us)) for size, us in points], look)
    return drawn + legend(curves)


def write(path, summary, names, options, facts):
    groups = {collective: own for collective, own in rows_.by_collective(summary).items()
              if curves_of(own, names)}
    height = len(groups) * (HEAD + PANEL) + FOOT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
           f'height="{height}">', STYLE, f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>']
    for i, (collective, own) in enumerate(groups.items()):
        top = i * (HEAD + PANEL)
        first, second = report.title_lines(collective, options, facts)
        out.append(text(LEFT, top + 28, first, extra=' class="title"'))
        out.append(text(LEFT, top + 48, second))
        out.append(f'<g transform="translate(0 {top + HEAD})">')
        out += panel(own, names) + ["</g>"]
    out.append(text(LEFT, height - 12, f"{facts['cpu']}, {facts['cores']} cores, {facts['kernel']}, "
                                       f"sennit {facts['revision']}"))
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out + ["</svg>"]) + "\n")
