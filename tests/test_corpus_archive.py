"""Slakh2100 and babyslakh: taken from a checked archive, or from a tree that is there, or refused in one line."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from stemscribe.corpora.archive import take_corpus, unpack
from stemscribe.corpora.inventory import Inventory, read_inventory
from stemscribe.corpora.sources import SOURCES, Archive, ArchiveSource, Errata, read_source
from stemscribe.errors import DataError, UsageError
from stemscribe.stages import run_stage
from stemscribe.stages.corpus import main

OUTPUT = Path("data/raw/tiny")
FILES = ("metadata.yaml", "all_src.mid", "mix.wav", "MIDI/S00.mid", "stems/S00.wav")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, in which the work is done."""
    monkeypatch.chdir(tmp_path)
    for name in ("CORPUS_DIR", "RAW_DIR", "DOWNLOADS_DIR"):
        monkeypatch.delenv(f"STEMSCRIBE_{name}", raising=False)
    return tmp_path


def files(tracks: list[str]) -> dict[str, bytes]:
    return {f"{track}/{name}": f"{track} {name}".encode() * 50 for track in tracks for name in FILES}


def pack(content: dict[str, bytes], top: str = "babyslakh_16k/", odd: tarfile.TarInfo | None = None) -> Path:
    path = Path("data/archives/tiny.tar.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f"{top}{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if odd is not None:
            archive.addfile(odd)
    return path


def source(path: Path, splits: str = "seeded", tracks: int = 10) -> ArchiveSource:
    content = path.read_bytes() if path.exists() else b""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    archive = Archive(str(path), "https://example.org/tiny.tar.gz", len(content), md5, tracks, splits)
    return ArchiveSource("tiny", "a tiny corpus", "CC0", "", archive, Errata((), ()))


def by_split(inventory: Inventory) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for track in inventory.tracks:
        found.setdefault(track.split, []).append(track.track)
    return found


TEN = [f"Track{number:05d}" for number in range(1, 11)]


def test_an_archive_becomes_a_tree_and_its_inventory() -> None:
    content = files(TEN)
    take_corpus(OUTPUT, source(pack(content)), seed=1)
    inventory = read_inventory(OUTPUT)
    assert inventory.root == Path("work/raw/tiny")
    for name, data in content.items():
        assert (inventory.root / name).read_bytes() == data
    assert [path.name for path in OUTPUT.iterdir()] == ["inventory.json"]
    assert all(track.files == len(FILES) for track in inventory.tracks)
    assert {split: len(names) for split, names in by_split(inventory).items()} == {"train": 7, "validation": 1, "test": 2}


def test_seeded_splits_depend_on_the_seed_and_on_nothing_else() -> None:
    tiny = source(pack(files(TEN)))
    splits = []
    for seed in (1, 1, 3):
        take_corpus(OUTPUT, tiny, seed)
        splits.append(by_split(read_inventory(OUTPUT)))
    assert splits[0] == splits[1] != splits[2]


def test_split_folders_are_kept_and_omitted_songs_are_not_even_unpacked() -> None:
    tracks = ["train/Track00001", "validation/Track00002", "test/Track00003", "omitted/Track00004"]
    take_corpus(OUTPUT, source(pack(files(tracks), top="./slakh2100_flac_redux/"), "folders", 3), seed=1)
    inventory = read_inventory(OUTPUT)
    assert by_split(inventory) == {"train": ["Track00001"], "validation": ["Track00002"], "test": ["Track00003"]}
    assert inventory.tracks[1].folder == "validation/Track00002"
    assert not (inventory.root / "omitted").exists()


def test_an_interrupted_unpacking_goes_on_where_it_stopped() -> None:
    path = pack(files(TEN))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged or incomplete") as caught:
        unpack(path, Path("work/raw/tiny"))
    assert "\n" not in str(caught.value)
    there = [each for each in Path("work/raw/tiny").rglob("*") if each.is_file()]
    assert 0 < len(there) < len(TEN) * len(FILES)
    assert not [each for each in there if each.name.startswith(".")]
    old = {each: each.stat().st_mtime_ns for each in there}
    path.write_bytes(whole)
    take_corpus(OUTPUT, source(path), seed=1)
    assert {each: each.stat().st_mtime_ns for each in there} == old
    assert len(read_inventory(OUTPUT).tracks) == 10


def test_once_unpacked_the_archive_may_go() -> None:
    path = pack(files(TEN))
    tiny = source(path)
    take_corpus(OUTPUT, tiny, seed=1)
    path.unlink()
    take_corpus(OUTPUT, tiny, seed=1)
    assert len(read_inventory(OUTPUT).tracks) == 10


def test_a_tree_named_in_the_environment_gives_the_same_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    content = files(TEN)
    tiny = source(pack(content))
    take_corpus(OUTPUT, tiny, seed=1)
    before = (OUTPUT / "inventory.json").read_bytes()
    for name, data in {**content, "Track00001/.DS_Store": b"x"}.items():
        place = Path("elsewhere", name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    monkeypatch.setenv("STEMSCRIBE_CORPUS_DIR", "elsewhere")
    take_corpus(OUTPUT, replace(tiny, archive=replace(tiny.archive, file="nowhere")), seed=1)
    assert (OUTPUT / "inventory.json").read_bytes() == before
    assert read_inventory(OUTPUT).root == Path("elsewhere")


def shorter(tiny: ArchiveSource) -> ArchiveSource:
    path = Path(tiny.archive.file)
    path.write_bytes(path.read_bytes()[:-5])
    return tiny


def flipped(tiny: ArchiveSource) -> ArchiveSource:
    path = Path(tiny.archive.file)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return tiny


def truncated_as_published(tiny: ArchiveSource) -> ArchiveSource:
    path = Path(tiny.archive.file)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return source(path)


def missing(tiny: ArchiveSource) -> ArchiveSource:
    Path(tiny.archive.file).unlink()
    return tiny


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (missing, r"no data/archives/tiny\.tar\.gz; download https://example\.org/tiny\.tar\.gz .*STEMSCRIBE_CORPUS_DIR"),
        (shorter, "bytes; continue its download"),
        (flipped, "its md5 is not"),
        (truncated_as_published, "damaged or incomplete"),
    ],
)
def test_a_missing_or_broken_archive_is_one_line_with_the_way_out(
    harm: Callable[[ArchiveSource], ArchiveSource], complaint: str
) -> None:
    tiny = harm(source(pack(files(TEN))))
    with pytest.raises(DataError, match=complaint) as caught:
        take_corpus(OUTPUT, tiny, seed=1)
    assert "\n" not in str(caught.value)
    assert not OUTPUT.exists()


def odd(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        odd("/Track00001/mix.wav"),
        odd("../Track00001/mix.wav"),
        odd("top/Track00001/../../../mix.wav"),
        odd("top/Track00001/stems/..\\..\\mix.wav"),
        odd("C:/Track00001/mix.wav"),
        odd("top/Track00001/mix.wav", tarfile.SYMTYPE, "/etc/passwd"),
        odd("top/Track00001/mix.wav", tarfile.LNKTYPE, "top/Track00001/other.wav"),
        odd("top/Track00001/mix.wav", tarfile.CHRTYPE),
        odd("top/Track00001/mix.wav", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type.decode()}",
)
def test_nothing_leaves_the_folder_and_nothing_but_files_is_unpacked(member: tarfile.TarInfo, project: Path) -> None:
    path = pack({}, odd=member)
    with pytest.raises(DataError, match="it is not the published archive") as caught:
        take_corpus(OUTPUT, source(path), seed=1)
    assert "\n" not in str(caught.value)
    assert {each.name for each in project.rglob("*") if each.is_file()} <= {"tiny.tar.gz", ".checked"}


def test_files_beside_the_tracks_are_left_in_the_archive() -> None:
    content = {**files(TEN), "README.md": b"hello", "Track00001/._mix.wav": b"a Mac was here"}
    take_corpus(OUTPUT, source(pack(content)), seed=1)
    names = {path.name for path in Path("work/raw/tiny").rglob("*") if path.is_file()}
    assert names == {name.rsplit("/", 1)[-1] for name in FILES} | {".checked", ".complete"}


def test_a_folder_without_tracks_is_named(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    tiny = source(pack(files(TEN)))
    for value, complaint in ((str(project), "no tracks"), ("missing", "no folder missing, which STEMSCRIBE_CORPUS_DIR names")):
        monkeypatch.setenv("STEMSCRIBE_CORPUS_DIR", value)
        with pytest.raises(DataError, match=complaint):
            take_corpus(OUTPUT, tiny, seed=1)
    monkeypatch.delenv("STEMSCRIBE_CORPUS_DIR")
    with pytest.raises(UsageError, match="expected folders or seeded"):
        take_corpus(OUTPUT, replace(tiny, archive=replace(tiny.archive, splits="random")), seed=1)


@pytest.mark.parametrize("content", ["", "[]", '{"name": "x"}', '{"name": "x", "root": ".", "tracks": [{"trak": "1"}]}'])
def test_a_broken_inventory_is_one_line(content: str) -> None:
    OUTPUT.mkdir(parents=True)
    (OUTPUT / "inventory.json").write_text(content)
    with pytest.raises(DataError, match="run `dvc repro corpus`") as caught:
        read_inventory(OUTPUT)
    assert "\n" not in str(caught.value)


def test_an_inventory_whose_tracks_are_gone_says_so() -> None:
    take_corpus(OUTPUT, source(pack(files(TEN))), seed=1)
    (Path("work/raw/tiny/Track00003")).rename("work/raw/tiny/gone")
    with pytest.raises(DataError, match=r"Track00003, which .* lists"):
        read_inventory(OUTPUT)


def test_the_published_facts_about_both_archives() -> None:
    """Sizes and md5 as Zenodo records 4599666 and 4603870 give them."""
    folder = Path(__file__).parents[1] / SOURCES
    slakh, baby = read_source("slakh2100", folder), read_source("babyslakh", folder)
    assert isinstance(slakh, ArchiveSource)
    assert isinstance(baby, ArchiveSource)
    assert (slakh.archive.bytes, slakh.archive.md5) == (104_322_767_708, "f4b71b6c45ac9b506f59788456b3f0c4")
    assert baby.archive.md5 == "311096dc2bde7d61c97e930edbfc7f78"
    for archive in (slakh.archive, baby.archive):  # and so do the pointers that `dvc push` goes by
        pointer = yaml.safe_load((folder.parents[1] / f"{archive.file}.dvc").read_text())
        (out,) = pointer["outs"]
        assert (out["md5"], out.get("size", archive.bytes)) == (archive.md5, archive.bytes)
    assert (slakh.archive.tracks, baby.archive.tracks) == (1289 + 270 + 151, 20)
    assert [(rule.programs, rule.semitones) for rule in slakh.errata.octave] == [(tuple(range(32, 40)), -12)]
    assert [(stem.track, stem.stem) for stem in slakh.errata.excluded_stems] == [("Track01500", "S12"), ("Track01500", "S13")]


def test_a_source_file_is_read_strictly(project: Path) -> None:
    (project / "data/sources").mkdir(parents=True)
    real = (Path(__file__).parents[1] / SOURCES / "babyslakh.yaml").read_text()
    (project / "data/sources/babyslakh.yaml").write_text(real.replace("md5:", "md6:"))
    with pytest.raises(UsageError, match="unknown key 'md6'; did you mean 'md5'"):
        read_source("babyslakh")
    with pytest.raises(UsageError, match="no corpus 'slak'; corpora are babyslakh"):
        read_source("slak")


def test_the_stage_tells_where_to_get_a_missing_corpus(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = Path(__file__).parents[1]
    (project / "data").symlink_to(repository / "data", target_is_directory=True)
    params = yaml.safe_load((repository / "params.yaml").read_text(encoding="utf-8"))
    params["corpus"]["name"] = "babyslakh"
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    if Path("data/archives/babyslakh.tar.gz").exists():
        pytest.skip("babyslakh is here")
    assert run_stage(main, []) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "download https://zenodo.org/records/4603870/" in message
    assert run_stage(main, ["extra"]) == 2


def test_the_inventory_names_no_place_on_this_machine(project: Path) -> None:
    take_corpus(OUTPUT, source(pack(files(TEN))), seed=1)
    content = json.loads((OUTPUT / "inventory.json").read_text())
    assert content["root"] == "unpacked"
    assert str(project) not in json.dumps(content)
