"""A request to stop: heard once, whenever it comes."""

import contextlib
import signal
import sys
import time

import pytest

from stemscribe import interruption
from stemscribe.errors import StemscribeError
from stemscribe.stages import INTERRUPTED, run_stage

LINE = "stemscribe: interrupted; the next run continues from what is finished\n"


class Interrupted:
    """Ctrl-C arrives while the last reference to this goes away."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_a_request_that_falls_into_a_destructor_is_heard_a_moment_later(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), interruption.watching():
        Interrupted()
        time.sleep(5)  # cut short
        pytest.fail("nobody heard it")

    assert "Exception ignored" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_request_is_one_line_and_the_next_do_not_disturb_the_tidying_up(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    tidied = []

    def stage(argv: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            tidied.append(True)

    assert run_stage(stage, []) == INTERRUPTED
    assert tidied == [True]
    assert capsys.readouterr().err == LINE


def test_a_library_that_catches_the_request_is_asked_again() -> None:
    with pytest.raises(KeyboardInterrupt), interruption.watching():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interruption.check()


@pytest.mark.parametrize("made_of_it", [RuntimeError("call iter() first"), StemscribeError("disk full"), SystemExit(1), None])
def test_a_request_stays_one_whatever_a_library_makes_of_it(
    made_of_it: BaseException | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def stage(argv: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            if made_of_it:
                raise made_of_it  # noqa: B904

    assert run_stage(stage, []) == INTERRUPTED
    assert capsys.readouterr().err == LINE


def test_a_request_that_was_found_is_not_made_again_while_the_library_tidies_up() -> None:
    with pytest.raises(KeyboardInterrupt), interruption.watching():
        Interrupted()
        try:
            interruption.check()
        finally:
            time.sleep(2 * interruption.AGAIN_AFTER)
            tidied = True

    assert tidied


def test_requests_stay_without_effect_until_the_process_has_ended() -> None:
    assert run_stage(lambda argv: signal.raise_signal(signal.SIGINT), []) == INTERRUPTED
    for number in interruption.REQUESTS:
        signal.raise_signal(number)


def test_handlers_and_hook_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (*interruption.REQUESTS, signal.SIGALRM)], sys.unraisablehook
    with interruption.watching():
        interruption.check()  # nobody asked

    assert ([signal.getsignal(number) for number in (*interruption.REQUESTS, signal.SIGALRM)], sys.unraisablehook) == before
