"""HTML and SVG as values: whatever is not already `Html` is escaped when it is put into an element.

tag("p", "a < b")                     # <p>a &lt; b</p>
tag("circle", cx="20%", r=4)          # <circle cx="20%" r="4"></circle>
"""

import html
from collections.abc import Iterable

VOID = frozenset({"br", "hr", "img", "link", "meta"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | None | Iterable["Child"]
Attribute = str | int | float | bool | None


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """One element.

    Args:
        name: of the element.
        *children: markup, plain text (escaped), None (nothing), or any nesting of these.
        **attributes: a trailing underscore is dropped and others become hyphens (`class_`, `aria_label`); None and
            False leave the attribute out, True writes it without a value, floats have three digits at most.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{join(children)}</{name}>")


def join(children: Child) -> Html:
    """Markup of several children, one after another."""
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, str):
        return Html(html.escape(children, quote=False))
    return Html("".join(join(child) for child in children))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'


def percent(share: float) -> str:
    """A share of a width as SVG and CSS write it."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def grouped_table(
    caption: str,
    header: Iterable[Child],
    groups: Iterable[tuple[Child, Iterable[Iterable[Child]]]],
    class_: str | None = None,
) -> Html:
    """A table whose rows come in groups: each group has one header beside all its rows, and each row its own beside that."""
    head = tag("tr", [tag("th", cell, scope="col") for cell in header])
    bodies = []
    for name, rows in groups:
        lines = [(tag("th", first, scope="row"), [tag("td", cell) for cell in rest]) for first, *rest in rows]
        group = tag("th", name, scope="rowgroup", rowspan=len(lines))
        bodies.append(tag("tbody", [tag("tr", None if place else group, line) for place, line in enumerate(lines)]))
    inner = tag("table", tag("caption", caption), tag("thead", head), bodies, class_=f"grouped {class_ or ''}".strip())
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def table(caption: str, header: Iterable[Child], rows: Iterable[Iterable[Child]], class_: str | None = None) -> Html:
    """A table that scrolls by itself where the screen is narrow; the first cell of each row is its header."""
    head = tag("tr", [tag("th", cell, scope="col") for cell in header])
    body = []
    for row in rows:
        first, *rest = row
        body.append(tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest]))
    inner = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body), class_=class_)
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)
