"""Reading what `torch.save` wrote without running it: what asks to be run is refused, and what is broken is called so."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_files import GENUINE, config, imports, refuses
from stemscribe import torch_archive


class Calls:
    """Pickled, it asks to have a function called."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.how = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.how


@pytest.mark.parametrize("entry", ["state_dict", "hyper_parameters"])
@pytest.mark.parametrize("function", [os.system, eval, exec, os.mkdir, __import__, pickle.loads, os.execl, io.open])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, entry: str, function: Callable[..., Any]) -> None:
    victim = str(tmp_path / "victim")
    argument = {eval: f"__import__('os').mkdir({victim!r})", exec: f"open({victim!r}, 'w')", os.mkdir: victim}.get(
        function, f"touch {victim}"
    )
    content: dict[str, Any] = {"state_dict": {"weight": torch.ones(1)}, "hyper_parameters": {}}
    content[entry]["evil"] = Calls(function, argument)
    torch.save(content, tmp_path / "evil.ckpt")
    with refuses("asks for '.+', which is no data; nothing was run, and this file is not to be trusted"):
        imports(tmp_path / "evil.ckpt", config())
    assert not Path(victim).exists()


def test_a_function_of_a_library_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries have dangerous functions too, and no list names them all; they are as inert as anything foreign."""
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 3, "hyper_parameters": Calls(np.save, "victim.npy", [1, 2])}, "saving.ckpt")
    with torch_archive.Archive(Path("saving.ckpt"), usual_bytes=1) as archive:
        content = archive.content()
    assert content["epoch"] == 3
    assert type(content["hyper_parameters"]) is torch_archive.Inert
    assert not Path("victim.npy").exists()


def pickled(*opcodes: bytes) -> bytes:
    return b"\x80\x02" + b"".join(opcodes) + b"."


@pytest.mark.parametrize(
    ("description", "match"),
    [
        (pickled(b"]"), "no Lightning checkpoint: it holds no entries"),
        (pickled(b"}"), "no Lightning checkpoint: it has no 'state_dict'"),
        (pickled(b"cposix\nsystem\n", b"U\x04true\x85", b"R"), "asks for 'posix.system'"),
        (pickled(b"c__builtin__\neval\n", b"U\x011\x85", b"R"), "asks for 'builtins.eval'"),
        (pickled(b"\x82\x01"), "names classes by number"),
        (pickled(b"}", b"r\xff\xff\xff\xff"), "made to fill the memory"),
        (pickled(b"ctorch._utils\n_rebuild_tensor_v2\n", b"}", b"b"), "no Lightning checkpoint"),
        (pickled(b"ctorch._utils\n_rebuild_tensor_v2\n", b")\x81"), "broken description"),
        (pickled(b"U\x04evilQ"), "points to something outside"),
        (pickled(b"0"), "broken description"),
        (pickled(b"}")[:-1], "broken description"),
        (b"", "broken description"),
    ],
)
def test_a_description_that_is_no_checkpoint(tmp_path: Path, description: bytes, match: str) -> None:
    with zipfile.ZipFile(tmp_path / "made.ckpt", "w") as archive:
        archive.writestr("made/data.pkl", description)
    with refuses(match):
        imports(tmp_path / "made.ckpt", config())


@pytest.mark.parametrize("name", [*torch_archive.KNOWN, "foreign.Thing"])
def test_a_pickle_cannot_change_the_reader(tmp_path: Path, name: str) -> None:
    """BUILD sets attributes of what it is given, even of a class or a function that the file merely names."""
    named = b"c" + b"\n".join(part.encode() for part in name.rpartition(".")[::2]) + b"\n"
    with zipfile.ZipFile(tmp_path / "made.ckpt", "w") as archive:
        archive.writestr("made/data.pkl", pickled(named, b"N}(U\x05colorK\x01u\x86", b"b", b"0}"))
    with refuses("it has no 'state_dict'"):
        imports(tmp_path / "made.ckpt", config())
    assert not hasattr(torch_archive.KNOWN.get(name, torch_archive.Inert), "color")


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    whole = GENUINE.read_bytes()
    (tmp_path / "part.ckpt").write_bytes(whole[: int(share * len(whole))])
    with refuses(r"is truncated at [\d,]+ bytes \(the published file has 561,544,628\); fetch it again"):
        imports(tmp_path / "part.ckpt", config())


def test_a_damaged_byte_is_found_by_its_checksum(tmp_path: Path) -> None:
    with zipfile.ZipFile(GENUINE) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    whole = bytearray(GENUINE.read_bytes())
    whole[largest.header_offset + 1000] ^= 1
    (tmp_path / "damaged.ckpt").write_bytes(whole)
    with refuses("is damaged .+; fetch it again"):
        imports(tmp_path / "damaged.ckpt", config())


@pytest.mark.parametrize(
    ("start", "match"),
    [
        (b"", "is empty"),
        (b"RIFF....WAVE", "is no checkpoint: a Lightning checkpoint is a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"\n<!doctype html>", "is a web page"),
    ],
)
def test_a_file_that_is_no_archive(tmp_path: Path, start: bytes, match: str) -> None:
    (tmp_path / "last.ckpt").write_bytes(start)
    with refuses(match):
        imports(tmp_path / "last.ckpt", config())


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "songs.zip", "w") as archive:
        archive.writestr("song.mid", b"MThd")
    with refuses("is a zip archive but no checkpoint: it holds no data.pkl"):
        imports(tmp_path / "songs.zip", config())
    with zipfile.ZipFile(tmp_path / "packed.ckpt", "w", zipfile.ZIP_DEFLATED) as archive, zipfile.ZipFile(GENUINE) as source:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    with refuses("is a compressed archive"):
        imports(tmp_path / "packed.ckpt", config())
    torch.save({"embed_tokens.weight": torch.ones(2, 2)}, tmp_path / "bare.pt")
    with refuses("holds bare weights"):
        imports(tmp_path / "bare.pt", config())
