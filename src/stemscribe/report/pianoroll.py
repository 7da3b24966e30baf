"""True and found notes over time, as inline SVG.

What was found lies inside the true note, what was missed is an empty dashed frame, what is false is a thin frame of its own.
Time runs in percent of the width, pitch in rows of pixels; drums have one row for each drum of the excerpt.
"""

from stemscribe.notes import Note
from stemscribe.report.excerpt import Excerpt
from stemscribe.report.markup import Html, join, percent, tag
from stemscribe.scoring.drums import drum_class_name

NAMES = (
    "C",
    "C\N{MUSIC SHARP SIGN}",
    "D",
    "E\N{MUSIC FLAT SIGN}",
    "E",
    "F",
    "F\N{MUSIC SHARP SIGN}",
    "G",
    "A\N{MUSIC FLAT SIGN}",
    "A",
    "B\N{MUSIC FLAT SIGN}",
    "B",
)
BLACK_KEYS = frozenset({1, 3, 6, 8, 10})
DRUM_ROW = 20  # pixels
TALLEST = 260  # pixels, pitched
HIT = 0.09  # seconds that a drum hit is drawn long
TIME_AXIS = 18  # pixels


def pitch_name(pitch: int) -> str:
    """C4 for 60."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


class _Rows:
    """Which row a pitch is drawn in, from the top."""

    def __init__(self, excerpt: Excerpt, drums: bool) -> None:
        pitches = {note.pitch for note in excerpt.notes} or {60}
        self.drums = drums
        if drums:
            self.pitches = sorted(pitches, reverse=True)
            self.height = DRUM_ROW
        else:
            middle, reach = (min(pitches) + max(pitches)) // 2, max(7, (max(pitches) - min(pitches)) // 2 + 2)
            self.pitches = list(range(middle + reach, middle - reach - 1, -1))
            self.height = max(5, min(14, TALLEST // len(self.pitches)))
        self.total = self.height * len(self.pitches)

    def top(self, pitch: int) -> int:
        return self.pitches.index(pitch) * self.height

    def name(self, pitch: int) -> str:
        return drum_class_name(pitch) if self.drums else pitch_name(pitch)

    def labelled(self) -> list[int]:
        """The pitches whose names stand at the side: every drum, or every C, or the outer two where there is no C."""
        if self.drums:
            return self.pitches
        inner = [pitch for pitch in self.pitches[1:-1] if pitch % 12 == 0]
        return inner or [self.pitches[1], self.pitches[-2]]


def piano_roll(excerpt: Excerpt, drums: bool) -> Html:
    """The excerpt's notes, with a line that the page's script moves while the audio plays."""
    rows = _Rows(excerpt, drums)
    words = (
        f"{len(excerpt.found)} notes found, {len(excerpt.missed)} missed, {len(excerpt.false)} false, "
        f"in {excerpt.seconds:.0f} seconds of {excerpt.track}"
    )
    plot = tag(
        "svg",
        tag("title", words),
        _background(rows, excerpt.seconds),
        [_box(true, excerpt, rows, "true", 0) for true, _ in excerpt.found],
        [_box(note, excerpt, rows, "missed", 0, "missed") for note in excerpt.missed],
        [_box(heard, excerpt, rows, "found", 1, "found") for _, heard in excerpt.found],
        [_box(note, excerpt, rows, "false", 1, "false") for note in excerpt.false],
        tag("line", x1="0%", x2="0%", y1=0, y2=rows.total, class_="playhead"),
        width="100%",
        height=rows.total + TIME_AXIS,
        role="img",
        aria_label=words,
    )
    names = tag(
        "svg",
        [
            tag("text", rows.name(pitch), x="100%", y=rows.top(pitch) + rows.height / 2 + 4, text_anchor="end")
            for pitch in rows.labelled()
        ],
        height=rows.total + TIME_AXIS,
        class_="names drums" if drums else "names",
        aria_hidden="true",
    )
    scroll = tag("div", plot, class_="scroll", tabindex=0, role="region", aria_label="Piano roll")
    return tag("div", names, scroll, class_="roll", data_seconds=excerpt.seconds)


def _background(rows: _Rows, seconds: float) -> Html:
    lines = []
    for pitch in rows.pitches:
        top = rows.top(pitch)
        if rows.drums or pitch % 12 == 0:
            edge = top + rows.height
            lines.append(tag("line", x1="0%", x2="100%", y1=edge, y2=edge, class_="grid"))
        elif pitch % 12 in BLACK_KEYS:
            lines.append(tag("rect", x="0%", width="100%", y=top, height=rows.height, class_="black-key"))
    for second in range(int(seconds) + 1):
        place = percent(second / seconds)
        lines.append(tag("line", x1=place, x2=place, y1=0, y2=rows.total, class_="grid"))
        if second % 2 == 0 and second < seconds:
            label = f"{second} s" if second else "0"
            lines.append(tag("text", label, x=place, y=rows.total + 13, dx=3))
    return join(lines)


def _box(note: Note, excerpt: Excerpt, rows: _Rows, class_: str, inset: int, outcome: str | None = None) -> Html:
    """One note; found and false notes are drawn `inset`, thinner than true ones."""
    onset = max(note.onset, 0.0)
    end = min(note.onset + HIT if rows.drums else note.offset, excerpt.seconds)
    margin = inset * rows.height / 4
    title = None
    if outcome:
        title = tag("title", f"{rows.name(note.pitch)} at {note.onset + excerpt.start:.2f} s: {outcome}")
    return tag(
        "rect",
        title,
        x=percent(onset / excerpt.seconds),
        width=percent(max(end - onset, 0.02) / excerpt.seconds),
        y=rows.top(note.pitch) + margin,
        height=rows.height - 2 * margin,
        rx=1.5,
        class_=class_,
    )
