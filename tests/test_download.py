"""A large file comes over a bad line: whole, the right one, and no byte of it twice if the server can help it.

The other side is a server on the loopback interface.
"""

import errno
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from file_server import FileServer, serving
from stemscribe import download
from stemscribe.download import fetch, is_address, place_of
from stemscribe.errors import DataError, StemscribeError, UsageError

CONTENT = bytes(range(256)) * 40_000  # ten blocks and a bit
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = 5_100_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer(CONTENT)) as running:
        yield running


def refuses(kind: type[Exception], match: str) -> Any:
    return pytest.raises(kind, match=r"\A[^\n]*" + match + r"[^\n]*\Z")


def broken_off(server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch, at: int = HALF) -> None:
    """What Ctrl-C leaves behind after `at` bytes."""

    def interrupted(blocks: Iterator[bytes], *_: object) -> Iterator[bytes]:
        received = 0
        for block in blocks:
            if received + len(block) > at:
                yield block[: at - received]
                raise KeyboardInterrupt
            received += len(block)
            yield block

    with monkeypatch.context() as patch:
        patch.setattr(download, "track", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(server.address(), folder)
    assert sum(path.stat().st_size for path in folder.glob("*.part")) == at
    server.asked.clear()


def test_a_file_is_fetched_once_and_kept_under_its_own_name(server: FileServer, tmp_path: Path) -> None:
    path = fetch(server.address(), tmp_path / "downloads", SHA256)
    assert path.read_bytes() == CONTENT
    assert path.name.startswith("last-")
    assert path.suffix == ".ckpt"
    assert os.listdir(path.parent) == [path.name]
    assert fetch(server.address(), tmp_path / "downloads", SHA256) == path
    assert server.asked == ["all"]


def test_files_of_one_name_from_two_addresses_are_two_files(tmp_path: Path) -> None:
    one, other = (place_of(f"https://example.org/{version}/last.ckpt?download=true", tmp_path) for version in "ab")
    assert one != other
    assert place_of("https://example.org/..%2F..%2Fetc", tmp_path).parent == tmp_path
    assert place_of("https://example.org", tmp_path).name.startswith("download-")


def test_it_says_how_far_it_is(server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(server.address(), tmp_path)
    assert "11 MB in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "headers",
    [{"ETag": '"first"'}, {"Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}],
    ids=["etag", "date"],
)
def test_an_interrupted_download_goes_on_where_it_was(
    headers: dict[str, str],
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.headers = headers
    broken_off(server, tmp_path, monkeypatch)
    assert fetch(server.address(), tmp_path, SHA256).read_bytes() == CONTENT
    assert server.asked == [f"bytes={HALF}-"]
    assert "the last 6 of 10 MB" in capsys.readouterr().err


def test_a_server_that_does_not_name_its_version_starts_anew(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.headers = {"ETag": 'W/"first"'}  # a weak one does not promise the same bytes
    broken_off(server, tmp_path, monkeypatch)
    assert fetch(server.address(), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["all"]


def test_a_server_without_ranges_starts_anew(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.ranges = False
    broken_off(server, tmp_path, monkeypatch)
    assert fetch(server.address(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={HALF}-"]


@pytest.mark.parametrize("condition", [True, False], ids=["the server notices", "the server does not"])
@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 3, HALF, HALF - 3, 17])
def test_two_versions_are_never_joined(
    length: int, condition: bool, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(server, tmp_path, monkeypatch)
    server.condition = condition
    server.content, server.headers = bytes(length), {"ETag": '"second"'}
    assert fetch(server.address(), tmp_path).read_bytes() == bytes(length)


def test_what_is_there_without_a_note_is_not_trusted(server: FileServer, tmp_path: Path) -> None:
    part = Path(f"{place_of(server.address(), tmp_path)}.part")
    for note in (None, "{", '{"total": "3", "validator": ""}', "[]"):
        part.write_bytes(b"something else")
        if note is not None:
            part.with_name(f"{part.name}.json").write_text(note)
        path = fetch(server.address(), tmp_path)
        assert path.read_bytes() == CONTENT
        path.unlink()
    assert set(server.asked) == {"all"}


def test_a_line_that_breaks_again_and_again_is_put_up_with(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [3_000_000, 0, 10, 4_000_000, 0]
    assert fetch(server.address(), tmp_path, SHA256).read_bytes() == CONTENT
    assert len(server.asked) == 6
    assert server.asked[0] == "all"
    assert all(asked.startswith("bytes=") for asked in server.asked[1:])


def test_a_server_that_always_breaks_off_is_given_up_and_the_next_run_goes_on(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [3_000_000, 0, 0, 0]
    with refuses(DataError, r"stopped at [1-3]\.\d MB \(.*\); run again to go on from there"):
        fetch(server.address(), tmp_path)
    assert not place_of(server.address(), tmp_path).exists()
    assert fetch(server.address(), tmp_path, SHA256).read_bytes() == CONTENT
    assert server.asked[-1] != "all"


def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = iter([[], [503, 429], [], []])  # what the server says after each pause, before it works again
    monkeypatch.setattr(download.time, "sleep", lambda _: server.status.extend(next(pauses)))
    server.cuts = [3_000_000, 2_000_000]
    assert fetch(server.address(), tmp_path, SHA256).read_bytes() == CONTENT
    assert len(server.asked) == 5


def test_a_kill_before_the_last_rename_costs_nothing(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(server.address(), tmp_path)
    assert fetch(server.address(), tmp_path, SHA256).read_bytes() == CONTENT
    assert server.asked == ["all"]


def test_another_file_than_expected_is_refused_with_both_hashes_and_kept(server: FileServer, tmp_path: Path) -> None:
    with refuses(DataError, f"its sha256 is {SHA256}, not {'0' * 64}; it lies in .*last-"):
        fetch(server.address(), tmp_path, "0" * 64)
    assert fetch(server.address(), tmp_path, SHA256).read_bytes() == CONTENT  # it was the hash that was wrong
    assert server.asked == ["all"]
    server.content = b"the mended file"
    mended = hashlib.sha256(server.content).hexdigest()
    assert fetch(server.address(), tmp_path, mended).read_bytes() == server.content
    assert server.asked == ["all", "all"]


def test_a_web_page_is_no_file(server: FileServer, tmp_path: Path) -> None:
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with refuses(DataError, "is a web page and not the file itself"):
        fetch(server.address(), tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("status", "text"), [(404, "404 Not Found"), (403, "403 Forbidden"), (503, "503 Service")])
def test_a_refusal_is_passed_on_at_once(status: int, text: str, server: FileServer, tmp_path: Path) -> None:
    server.status = [status]
    with refuses(DataError, f"the server says {text}.*put the file there by hand: .*last-"):
        fetch(server.address(), tmp_path)
    assert server.asked == ["all"]


def test_no_network_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: whoever calls is turned away
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/last.ckpt"
        with refuses(DataError, r"nothing comes from 127.0.0.1 \(Connection refused\); go online once, or put the file"):
            fetch(address, tmp_path)


def test_a_name_that_nobody_knows_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with refuses(DataError, r"nothing comes from nowhere.invalid \(Name or service not known\)"):
        fetch("https://nowhere.invalid/last.ckpt", tmp_path)


@pytest.mark.parametrize("address", ["file:///tmp/last.ckpt", "s3://bucket/last.ckpt", "https:///last.ckpt"])
def test_what_is_no_web_address(address: str, tmp_path: Path) -> None:
    assert is_address(address)
    with refuses(UsageError, "must begin with https:// or http://"):
        fetch(address, tmp_path)


@pytest.mark.parametrize("path", ["small", "models/base", "/data/last.ckpt", "C:/last.ckpt"])
def test_what_is_a_path(path: str) -> None:
    assert not is_address(path)


def test_too_little_room_is_noticed_before_the_first_byte(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=7_000_000))
    with refuses(StemscribeError, "takes 10 MB, and .* has 7 MB free; make room, or name another place"):
        fetch(server.address(), tmp_path)


def test_a_disk_that_fills_up_on_the_way_is_one_line(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(blocks: Iterator[bytes], *_: object) -> Iterator[bytes]:
        yield next(blocks)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(download, "track", full)
        with refuses(StemscribeError, "cannot write into .*: No space left on device; make room"):
            fetch(server.address(), tmp_path)
    assert fetch(server.address(), tmp_path, SHA256).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=1000000-"


def test_two_processes_do_not_write_one_file(server: FileServer, tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with refuses(StemscribeError, "another process downloads into"):
            fetch(server.address(), tmp_path)
    finally:
        os.close(handle)
    fetch(server.address(), tmp_path)
