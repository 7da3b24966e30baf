"""Charts as inline SVG that stretch with the page: widths are percentages and heights are pixels, so text never shrinks.

Colour tells the model (base, specialist), fill tells what it heard (hollow: not the stem as it would arrive),
and every value also stands in a table or a tooltip.
"""

from collections.abc import Iterable, Mapping, Sequence

from stemscribe.report.evidence import Curve, Scores
from stemscribe.report.markup import Html, percent, tag
from stemscribe.scoring.conditions import (
    BASE_MIX,
    BASE_STEM,
    HEAD_TITLES,
    HEADLINE,
    SHUFFLED_TIME,
    SPECIALIST_STEM,
    TITLES,
)

STYLES: Mapping[str, str] = {
    BASE_MIX: "base full",
    BASE_STEM: "base hollow",
    SPECIALIST_STEM: "specialist hollow",
    HEADLINE: "specialist full",
    SHUFFLED_TIME: "chance full",
}
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROW = 30  # pixels of a row with an interval
SLIM_ROW = 22
CURVE_HEIGHT = 120


def interval_chart(heads: Mapping[str, Mapping[str, Scores]], order: Sequence[str]) -> Html:
    """Mean onset F1 of each condition with its interval, on a scale from 0 to 1, as rows of label, mark and number.

    Args:
        heads: scores by head and condition; where there are several heads, each condition has a row for each.
        order: the conditions.
    """
    rows = []
    for condition in order:
        for place, (head, conditions) in enumerate(heads.items()):
            name = None if place else tag("span", TITLES[condition][0].upper() + TITLES[condition][1:])
            by = tag("span", HEAD_TITLES[head], class_="by") if len(heads) > 1 else None
            label = tag("span", name, by, class_="label")
            mean = conditions[condition]["onset_f1"] or 0.0
            number = tag("span", f"{mean:.3f}", class_="number")
            rows.append(tag("div", label, _mark(conditions[condition], STYLES[condition]), number, class_="row"))
    return tag("div", rows, _axis(), class_="intervals paired" if len(heads) > 1 else "intervals")


def _mark(scores: Scores, style: str) -> Html:
    mean, low, high = (scores[key] or 0.0 for key in ("onset_f1", "onset_f1_low", "onset_f1_high"))
    middle = ROW // 2
    return tag(
        "svg",
        _grid(ROW),
        tag("line", x1=percent(_inside(low)), x2=percent(_inside(high)), y1=middle, y2=middle, class_="whisker"),
        tag("circle", cx=percent(_inside(mean)), cy=middle, r=6, class_="dot"),
        width="100%",
        height=ROW,
        aria_hidden="true",
        class_=style,
    )


def _inside(value: float) -> float:
    """A score's place on the axis, which leaves room for half a dot at both ends."""
    return 0.02 + 0.96 * min(max(value, 0.0), 1.0)


def _grid(height: int) -> list[Html]:
    return [tag("line", x1=percent(_inside(tick)), x2=percent(_inside(tick)), y1=0, y2=height, class_="grid") for tick in TICKS]


def _axis() -> Html:
    """The labels of a 0-to-1 axis, below rows made of label, mark and number."""
    labels = [tag("text", f"{tick:g}", x=percent(_inside(tick)), y=12, text_anchor="middle") for tick in TICKS]
    axis = tag("svg", labels, width="100%", height=16, aria_hidden="true", class_="axis")
    return tag("div", tag("span", class_="label"), axis, tag("span", class_="number"), class_="row ticks")


def track_chart(before: Mapping[str, float], after: Mapping[str, float]) -> Html:
    """One row per test track: the base on the mix and the specialist on the separated stem, joined; largest gain first."""
    rows = []
    middle = SLIM_ROW // 2
    for track in sorted(before, key=lambda track: (before[track] - after[track], track)):
        low, high, gain = _inside(before[track]), _inside(after[track]), after[track] - before[track]
        mark = tag(
            "svg",
            _grid(SLIM_ROW),
            tag("line", x1=percent(low), x2=percent(high), y1=middle, y2=middle, class_="gain" if gain >= 0 else "loss"),
            tag("circle", cx=percent(low), cy=middle, r=4.5, class_="dot base-dot"),
            tag("circle", cx=percent(high), cy=middle, r=4.5, class_="dot specialist-dot"),
            tag("title", f"{track}: base {before[track]:.3f}, specialist {after[track]:.3f}"),
            width="100%",
            height=SLIM_ROW,
            role="img",
            aria_label=f"{track}: base {before[track]:.3f}, specialist {after[track]:.3f}",
        )
        number = tag("span", signed(gain, 2), class_="number" if gain >= 0 else "number worse")
        rows.append(tag("div", tag("span", track, class_="label"), mark, number, class_="row slim"))
    return tag("div", rows, _axis(), class_="intervals tracks")


def curve_chart(curve: Curve) -> Html:
    """A learning curve with its range in words."""
    low, high = min(curve.values), max(curve.values)
    span, steps = (high - low) or 1.0, (curve.steps[-1] - curve.steps[0]) or 1.0
    points = [
        (100 * (step - curve.steps[0]) / steps, 100 - 100 * (value - low) / span)
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    line = tag("polyline", points=" ".join(f"{x:.2f},{y:.2f}" for x, y in thinned(points)), class_="curve")
    best = max(curve.values) if "f1" in curve.name else min(curve.values)
    at = curve.steps[curve.values.index(best)]
    words = f"{curve.name}: first {curve.values[0]:.3g}, best {best:.3g} at step {at:.0f}, last {curve.values[-1]:.3g}"
    plot = tag(
        "svg",
        line,
        viewBox="0 0 100 100",
        preserveAspectRatio="none",
        height=CURVE_HEIGHT,
        width="100%",
        role="img",
        aria_label=words,
    )
    scale = tag("div", tag("span", f"{high:.3g}"), tag("span", f"{low:.3g}"), class_="scale", aria_hidden="true")
    span_of_steps = tag(
        "div",
        tag("span", f"{curve.steps[0]:.0f}"),
        tag("span", f"step {curve.steps[-1]:.0f}"),
        class_="steps",
        aria_hidden="true",
    )
    return tag("figure", tag("figcaption", words), tag("div", scale, plot, class_="plot"), span_of_steps, class_="curve-figure")


def thinned(points: Sequence[tuple[float, float]], most: int = 600) -> Iterable[tuple[float, float]]:
    """At most about `most` of the points, evenly taken, with the last."""
    stride = max(1, len(points) // most)
    return [*points[:-1:stride], points[-1]]


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, the minus as printers write it."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
