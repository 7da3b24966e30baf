"""Too little memory: one line that says what was asked, what has been found to fit, and where to change it."""

import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from stemscribe.errors import StemscribeError
from stemscribe.memory import memory_for, out_of_memory
from stemscribe.transcriber import Transcriber
from tiny_model import small_model

# Under a real limit: 300 MB beyond what is there. A segment takes 100 MB, so 2 fit, 16 and 8 and 4 do not.
LIMITED = """
import resource, torch
from stemscribe.errors import StemscribeError
from stemscribe.memory import memory_for

torch.zeros(10)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 300_000_000, -1))
attempt = lambda segments: torch.zeros(segments, 25_000_000)
try:
    with memory_for(16, "training on", "finetune.batch_size", attempt):
        attempt(16)
except StemscribeError as error:
    print(error)
"""


def device_with_room_for(limit: int):
    def attempt(segments: int) -> None:
        if segments > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    return attempt


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_what_fits_is_found_by_trying():
    source = Path(__file__).parents[1] / "src"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(source)}
    )
    assert done.stdout == "too little memory for training on 16 segments at a time; 2 fit: set finetune.batch_size to 2\n"


@pytest.mark.parametrize(("limit", "fit"), [(9, 5), (4, 2), (1, 1)])
def test_a_device_that_refuses_is_understood(limit, fit):
    attempt = device_with_room_for(limit)
    with pytest.raises(StemscribeError, match=f"10 segments at a time; {fit} fit: set it to {fit}$") as refusal:
        with memory_for(10, "decoding", "it", attempt):
            attempt(10)
    assert refusal.value.exit_code == 1


def test_where_nothing_fits_it_says_so():
    attempt = device_with_room_for(0)
    with pytest.raises(StemscribeError, match="and even for one"):
        with memory_for(2, "decoding", "it", attempt):
            attempt(2)


def test_what_the_failed_work_held_is_free_before_anything_is_tried():
    held: list[weakref.ref[np.ndarray]] = []
    alive: list[bool] = []

    def work() -> None:
        activations = np.zeros(25_000_000, np.float32)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    with pytest.raises(StemscribeError, match="1 fit"):
        with memory_for(2, "decoding", "it", lambda _: alive.append(held[0]() is not None)):
            work()
    assert alive == [False]


@pytest.mark.parametrize("library", ["CUBLAS", "CUDNN"])
def test_a_library_that_finds_no_memory_is_understood(library):
    assert out_of_memory(RuntimeError(f"CUDA error: {library}_STATUS_ALLOC_FAILED when calling `Create(handle)`"))
    assert not out_of_memory(RuntimeError(f"CUDA error: {library}_STATUS_EXECUTION_FAILED when calling `Create(handle)`"))


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"):
        with memory_for(2, "decoding", "it", lambda _: None):
            raise RuntimeError("shapes do not fit")


def with_little_memory(monkeypatch: pytest.MonkeyPatch, room: int):
    """A model that hears at most `room` segments at a time, and what it is asked: segments heard, tokens a stream."""
    model = small_model([4])
    encode, generate = model.encode, model.generate_from_memory
    heard: list[int] = []
    written: list[int] = []

    def encoded(waveform, *rest):
        if len(waveform) > room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        heard.append(len(waveform))
        return encode(waveform, *rest)

    def generated(*rest, **options):
        tokens = generate(*rest, **options)
        written.append(tokens.shape[-1])
        return tokens

    monkeypatch.setattr(model, "encode", encoded)
    monkeypatch.setattr(model, "generate_from_memory", generated)
    return model, heard, written


def test_transcribing_too_much_at_a_time_names_the_setting(monkeypatch: pytest.MonkeyPatch):
    model, heard, written = with_little_memory(monkeypatch, room=3)
    monkeypatch.setenv("STEMSCRIBE_SEGMENTS", "16")
    four = np.zeros(4 * model.config.segment_samples, np.float32)
    with pytest.raises(StemscribeError, match=r"transcribing 4 segments at a time; 2 fit: set STEMSCRIBE_SEGMENTS to 2$"):
        Transcriber(model, range(32, 40)).transcribe_by_head(four)
    assert heard == [2, 3]  # and those that lie between
    assert written == [model.config.max_length]
    monkeypatch.setenv("STEMSCRIBE_SEGMENTS", "2")
    assert Transcriber(model, range(32, 40)).transcribe(four).seconds == pytest.approx(8.19, abs=0.01)


def test_hearing_frames_too_many_at_a_time_names_the_setting(monkeypatch: pytest.MonkeyPatch):
    model, heard, written = with_little_memory(monkeypatch, room=3)
    monkeypatch.setenv("STEMSCRIBE_SEGMENTS", "4")
    four = np.zeros(4 * model.config.segment_samples, np.float32)
    with pytest.raises(StemscribeError, match=r"transcribing 4 segments at a time; 2 fit: set STEMSCRIBE_SEGMENTS to 2$"):
        Transcriber(model, range(32, 40)).hear_frames(four)
    assert (heard, written) == ([2, 3], [])
