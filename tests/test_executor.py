"""Work is spread over processes so that nobody can tell: same results, same order, same errors."""

import os
import signal
import subprocess
import sys
import time

import pytest

from processes import alive, children
from stemscribe.errors import DataError, StemscribeError
from stemscribe.executor import map_in_processes


def square(number: int) -> tuple[int, int]:
    """The first items take longest, so that they are ready last."""
    time.sleep(0.02 * (4 - number))
    return number, number * number


def break_at_two(number: int) -> int:
    if number == 2:
        raise DataError("stems/S02.flac is truncated; replace the file")
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_the_order_of_the_items_for_any_number_of_workers() -> None:
    alone = map_in_processes(square, range(5), 1, "squaring")
    assert alone == [(0, 0), (1, 1), (2, 4), (3, 9), (4, 16)]
    assert map_in_processes(square, range(5), 2, "squaring") == alone


def test_no_items_need_no_workers() -> None:
    assert map_in_processes(square, [], 4, "squaring") == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_workers_error_arrives_as_it_was_raised(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        map_in_processes(break_at_two, range(4), workers, "reading")
    assert str(caught.value) == "stems/S02.flac is truncated; replace the file"


def test_a_killed_worker_is_one_line_with_the_way_out() -> None:
    with pytest.raises(StemscribeError, match=r"a worker process was killed.*STEMSCRIBE_WORKERS=1"):
        map_in_processes(die, range(2), 2, "reading")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a child that its parent died")
def test_workers_do_not_outlive_a_killed_caller() -> None:
    code = (
        "import time; from stemscribe.executor import map_in_processes; map_in_processes(time.sleep, [60, 60], 2, 'sleeping')"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as caller:
        deadline = time.monotonic() + 20
        while len(workers := children(caller.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(workers) == 2
        time.sleep(0.5)  # until they wait for work
        caller.kill()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in workers)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
@pytest.mark.parametrize("workers_running", [False, True])
def test_ctrl_c_ends_the_workers_at_once_and_they_say_nothing(workers_running: bool) -> None:
    code = (
        "import signal, sys, time; from stemscribe.executor import map_in_processes\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell has background jobs ignore it
        "try: map_in_processes(time.sleep, [60, 60, 0], 3, 'sleeping')\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True) as caller:
        deadline = time.monotonic() + 30
        while len(workers := children(caller.pid)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(workers) == 3
        time.sleep(3.0 if workers_running else 0.1)  # asleep, one of them without work; or still on their way
        os.killpg(caller.pid, signal.SIGINT)
        _, said = caller.communicate(timeout=30)
    assert caller.returncode == 130
    assert "Traceback" not in said
    assert not any(alive(pid) for pid in workers)
