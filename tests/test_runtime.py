"""The machine's settings come from the environment, then from runtime.yaml, then from the machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemscribe import runtime
from stemscribe.errors import UsageError


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder without runtime.yaml, and no STEMSCRIBE_ variable."""
    monkeypatch.chdir(tmp_path)
    for name in runtime.SETTINGS:
        monkeypatch.delenv(f"STEMSCRIBE_{name.upper()}", raising=False)
    runtime._file_settings.cache_clear()
    yield
    runtime._file_settings.cache_clear()


def settings(text: str) -> None:
    Path("runtime.yaml").write_text(text, encoding="utf-8")
    runtime._file_settings.cache_clear()


def test_without_settings_the_machine_decides() -> None:
    assert 1 <= runtime.workers() <= (os.cpu_count() or 1)
    assert runtime.threads() == runtime.workers()
    assert runtime.device() in ("cpu", "cuda")
    assert runtime.downloads_dir() == Path("work/downloads")
    assert runtime.raw_dir() == Path("work/raw")
    assert runtime.corpus_dir() is None


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    settings("workers: 3\nthreads: 5\ndevice: cpu\n")
    assert (runtime.workers(), runtime.threads(), runtime.device()) == (3, 5, "cpu")
    monkeypatch.setenv("STEMSCRIBE_WORKERS", "7")
    assert (runtime.workers(), runtime.threads()) == (7, 5)


def test_an_empty_variable_and_an_empty_file_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings("")
    monkeypatch.setenv("STEMSCRIBE_CORPUS_DIR", "")
    assert runtime.corpus_dir() is None


def test_a_key_without_a_value_says_nothing() -> None:
    settings("downloads_dir:\nworkers: 3\n")
    assert runtime.downloads_dir() == Path("work/downloads")
    assert runtime.workers() == 3


def test_folders_can_lie_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMSCRIBE_CORPUS_DIR", "/music/slakh")
    settings("downloads_dir: /cache\nraw_dir: /scratch\n")
    assert (runtime.corpus_dir(), runtime.downloads_dir(), runtime.raw_dir()) == (
        Path("/music/slakh"),
        Path("/cache"),
        Path("/scratch"),
    )


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("STEMSCRIBE_WORKERS", value)
    with pytest.raises(UsageError, match=f"STEMSCRIBE_WORKERS is '{value}'; give a whole number of at least 1"):
        runtime.workers()


def test_the_message_names_the_file_if_the_value_stands_there() -> None:
    settings("workers: many\n")
    with pytest.raises(UsageError, match=r"workers in runtime.yaml is 'many'"):
        runtime.workers()


def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMSCRIBE_DEVICE", "gpu")
    with pytest.raises(UsageError, match="STEMSCRIBE_DEVICE is 'gpu'; give cpu, cuda or auto"):
        runtime.device()


def test_a_gpu_that_is_asked_for_and_not_there_is_no_silent_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert runtime.device() == "cpu"
    monkeypatch.setenv("STEMSCRIBE_DEVICE", "cuda")
    with pytest.raises(UsageError, match="finds no usable GPU"):
        runtime.device()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("worker: 3\n", "no setting 'worker' in runtime.yaml; settings are workers, threads"),
        ("workers: [3\n", "cannot read runtime.yaml"),
        ("just words\n", "runtime.yaml holds no settings"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_in_one_line(text: str, expected: str) -> None:
    settings(text)
    with pytest.raises(UsageError, match=expected) as caught:
        runtime.workers()
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused() -> None:
    Path("runtime.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"cannot read runtime\.yaml"):
        runtime.workers()
