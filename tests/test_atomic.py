"""Nothing half written: a result is there whole, or what was there before still is."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stemscribe.atomic import atomic_directory, atomic_file, sha256_file, write_json
from stemscribe.errors import StemscribeError


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "song.mid"
    with atomic_file(target) as partial:
        partial.write_bytes(b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert os.listdir(target.parent) == ["song.mid"]


def test_an_interrupted_writer_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "models"
    with atomic_directory(target) as partial:
        (partial / "old").touch()
    with pytest.raises(KeyboardInterrupt), atomic_directory(target) as partial:
        (partial / "new").touch()
        raise KeyboardInterrupt
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["models"]


def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    leftover = tmp_path / ".models.partial"
    leftover.mkdir()
    (leftover / "rubbish").touch()
    with atomic_directory(tmp_path / "models") as partial:
        (partial / "weights").touch()
    assert os.listdir(tmp_path / "models") == ["weights"]
    assert not leftover.exists()


RENAMES = {"the old one aside": 1, "the new one into its place": 2}


@pytest.mark.parametrize("number", RENAMES.values(), ids=list(RENAMES))
def test_a_folder_is_never_lost_while_it_is_replaced(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "models"
    with atomic_directory(target) as partial:
        (partial / "old").touch()
    rename, renames = Path.replace, []

    def refused_once(self: Path, other: Path) -> Path:
        renames.append((self.name, other.name))
        if len(renames) == number:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return rename(self, other)

    monkeypatch.setattr(Path, "replace", refused_once)
    with pytest.raises(StemscribeError, match=r"cannot write .*models: Permission denied"):
        with atomic_directory(target) as partial:
            (partial / "new").touch()
    assert os.listdir(tmp_path) == ["models"]
    assert os.listdir(target) == ["old"]


KILLED = """
import os, pathlib, signal, sys
from stemscribe.atomic import atomic_directory
rename = pathlib.Path.replace
def dies(self, target):
    rename(self, target)
    if self.name == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.replace = dies
with atomic_directory("models") as partial:
    (partial / "new").touch()
"""


@pytest.mark.parametrize(("after", "left", "kept"), [("models", [], "old"), (".models.partial", ["new"], "new")])
def test_the_next_writer_finds_what_a_kill_between_the_renames_left(
    after: str, left: list[str], kept: str, tmp_path: Path
) -> None:
    target = tmp_path / "models"
    with atomic_directory(target) as partial:
        (partial / "old").touch()
    done = subprocess.run([sys.executable, "-c", KILLED, after], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (os.listdir(target) if target.exists() else []) == left
    with pytest.raises(KeyboardInterrupt), atomic_directory(target):
        assert os.listdir(target) == [kept]  # already while the next one is being written
        raise KeyboardInterrupt
    assert os.listdir(target) == [kept]
    assert os.listdir(tmp_path) == ["models"]


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/weights").touch()
    (tmp_path / "models").symlink_to("shared")
    with atomic_directory(tmp_path / "models") as partial:
        (partial / "new").touch()
    assert os.listdir(tmp_path / "models") == ["new"]
    assert os.listdir(tmp_path / "shared") == ["weights"]


def test_a_full_disk_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StemscribeError, match=r"cannot write .*notes.npz: No space left on device; free some space"):
        with atomic_file(tmp_path / "notes.npz") as partial:
            partial.write_bytes(b"some")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_a_full_disk_while_a_folder_is_copied_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves/loss.tsv").touch()

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StemscribeError, match=r"cannot write .*logs: \[Errno 28\] No space left on device; free some space"):
        with atomic_directory(tmp_path / "logs") as partial:
            shutil.copytree(tmp_path / "curves", partial, copy_function=full, dirs_exist_ok=True)
    assert os.listdir(tmp_path) == ["curves"]


def test_json_is_written_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write_json(tmp_path / name, {"b": 1, "a": "é"})
    assert sha256_file(tmp_path / "a.json") == sha256_file(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "b": 1,\n "a": "é"\n}\n'
