"""Plots: curves as SVG, with what they show as a table behind them. Functions to a string.

Colours and fonts are the stylesheet's, by class: "generative" and "dense" for the side, "of-0", "of-1" and so on for
the memory, whose lines are dashed each in its own way. Text from outside goes through `html.text`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gcr_core.ui.html import text

WIDTH, HEIGHT = 400, 280
"""The size of a plot, in its own units."""
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 12, 44
"""The room around its curves, for numbers and names of the axes."""
TICKS = 5
"""About how many steps an axis has."""
LARGEST_DOT = 7.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """What goes from left to right, or from the bottom upwards."""

    name: str
    low: float
    high: float
    ticks: Sequence[float]
    written: Callable[[float], str]
    """A tick as a person reads it."""
    exact: Callable[[float], str]
    """A value in a table."""


@dataclass(frozen=True)
class Curve:
    """One line of a plot."""

    name: str
    look: str
    """Its classes."""
    points: Sequence[Point]
    bars: dict[float, Point] = field(default_factory=dict)
    """x → the interval (low, high) of the y there."""
    sizes: Sequence[int] = ()
    """How many answers stand behind each point; dots are drawn where it is given."""


def shares(name: str, values: Sequence[float]) -> Axis:
    """An axis of shares in per cent, from a round number below the least of the values to one above the greatest."""
    least, most = min(values, default=0.0), max(values, default=1.0)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if (most - least) / step <= TICKS or step == 0.2)
    first = min(math.floor(least / step + 1e-9), round(1 / step) - 1)
    last = max(math.ceil(most / step - 1e-9), first + 1)
    ticks = [number * step for number in range(first, last + 1)]
    return Axis(name, ticks[0], ticks[-1], ticks, lambda share: f"{100 * share:.0f} %", lambda x: f"{100 * x:.1f} %")


def whole_numbers(name: str, most: int) -> Axis:
    return Axis(name, 1, most, range(1, most + 1), "{:.0f}".format, "{:.0f}".format)


def plot(
    id: str, title: str, says: str, across: Axis, up: Axis, curves: Sequence[Curve], diagonal: bool = False
) -> str:
    """A figure: its heading, the drawing, what its curves are, and their numbers in a table.

    `says` is for those who do not see it, and who are new to such plots. `diagonal`: draws where x and y are equal.
    """
    drawn = "".join(_curve(curve, across, up) for curve in curves)
    ideal = ""
    if diagonal:
        ends = [_place((value, value), across, up) for value in (across.low, across.high)]
        ideal = f'<path class="ideal" d="M{ends[0]} L{ends[1]}"/>'
    legend = "".join(
        f'<li class="{curve.look}"><svg viewBox="0 0 28 8" aria-hidden="true"><path d="M1 4 H27"/></svg>'
        f"{text(curve.name)}</li>"
        for curve in curves
    )
    return (
        f'<figure class="plot" id="{id}"><h3>{text(title)}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{id}-title {id}-says">'
        f'<title id="{id}-title">{text(title)}</title><desc id="{id}-says">{text(says)}</desc>'
        f"{_axes(across, up)}{ideal}{drawn}</svg>"
        f"<figcaption><ul>{legend}</ul><p>{text(says)}</p></figcaption>{_table(title, across, up, curves)}</figure>"
    )


def _place(point: Point, across: Axis, up: Axis) -> str:
    x = LEFT + (point[0] - across.low) / (across.high - across.low or 1) * (WIDTH - LEFT - RIGHT)
    y = HEIGHT - BOTTOM - (point[1] - up.low) / (up.high - up.low or 1) * (HEIGHT - TOP - BOTTOM)
    return f"{x:.1f} {y:.1f}"


def _axes(across: Axis, up: Axis) -> str:
    rows = []
    for tick in up.ticks:
        start, end = (_place((x, tick), across, up) for x in (across.low, across.high))
        x, y = map(float, start.split())
        rows.append(
            f'<path class="grid" d="M{start} L{end}"/><text x="{x - 7}" y="{y + 4}" class="y">{up.written(tick)}</text>'
        )
    for tick in across.ticks:
        x, y = map(float, _place((tick, up.low), across, up).split())
        rows.append(
            f'<path class="tick" d="M{x} {y} v4"/><text x="{x}" y="{y + 17}" class="x">{across.written(tick)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    rows.append(f'<text x="{middle}" y="{HEIGHT - 5}" class="x name">{text(across.name)}</text>')
    height = (TOP + HEIGHT - BOTTOM) / 2
    rows.append(f'<text x="11" y="{height}" class="x name" transform="rotate(-90 11 {height})">{text(up.name)}</text>')
    return "".join(rows)


def _curve(curve: Curve, across: Axis, up: Axis) -> str:
    places = [_place(point, across, up) for point in curve.points]
    parts = [f'<path d="M{" L".join(places)}"/>'] if len(places) > 1 else []
    for x, (low, high) in curve.bars.items():
        ends = [_place((x, y), across, up) for y in (max(low, up.low), min(high, up.high))]
        parts.append(f'<path class="bar" d="M{ends[0]} L{ends[1]}"/>')
    most = max(curve.sizes, default=1)
    sizes = curve.sizes or ([1] if len(places) == 1 else [])
    for place, size in zip(places, sizes, strict=False):
        left, top = place.split()
        parts.append(f'<circle cx="{left}" cy="{top}" r="{2 + (LARGEST_DOT - 2) * math.sqrt(size / most):.1f}"/>')
    return f'<g class="{curve.look}">{"".join(parts)}</g>'


def _table(title: str, across: Axis, up: Axis, curves: Sequence[Curve]) -> str:
    counted = any(curve.sizes for curve in curves)
    rows = []
    for curve in curves:
        for place, (x, y) in enumerate(curve.points):
            cells = [across.exact(x), up.exact(y)]
            cells += [f"{curve.sizes[place]:,}" if curve.sizes else ""] * counted
            row = "".join(f"<td>{cell}</td>" for cell in cells)
            rows.append(f'<tr><th scope="row">{text(curve.name)}</th>{row}</tr>')
    names = ["side", across.name, up.name, *["answers"] * counted]
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    return (
        f'<details class="numbers"><summary>The numbers<span class="sr"> of {text(title)}</span></summary>'
        f'<div class="wide" tabindex="0" role="group" aria-label="{text(title)}: numbers"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )
