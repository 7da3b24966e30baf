"""Progress shows how far the work is and never changes what is worked on."""

import sys

import pytest

from stemscribe import progress


def test_items_pass_unchanged_and_the_last_line_counts_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track(["kick", "snare"], "rendering", unit="drums")) == ["kick", "snare"]
    out, err = capsys.readouterr()
    assert out == ""  # results may be read from there
    assert err.startswith("rendering: 2 drums in ")
    assert len(err.splitlines()) == 1  # quick work says one line


def test_long_work_tells_rate_and_remaining_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter(range(0, 1000, 6))  # six seconds an item
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    assert list(progress.track(range(4), "preparing", unit="tracks")) == [0, 1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "preparing: 2/4 tracks, 0.2 tracks/s, 12 s left"
    assert len(lines) == 3


def test_work_of_unknown_length_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    assert list(progress.track(iter("ab"), "reading")) == ["a", "b"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("reading: 1/? it, ")
    assert "left" not in lines[0]


def test_no_work_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track([], "rendering")) == []
    assert "rendering: 0 it" in capsys.readouterr().err


def test_items_are_taken_one_at_a_time() -> None:
    taken = []
    work = progress.track((taken.append(n) or n for n in range(3)), "reading", 3)
    next(work)
    assert taken == [0]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress.track(["kick", "snare"], "rendering", unit="drums")) == ["kick", "snare"]
    err = capsys.readouterr().err
    assert "rendering" in err
    assert "2/2" in err
    assert "drums/s" in err
