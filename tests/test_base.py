"""Whatever base.source names becomes models/base, for all channels and with its history; or it is refused in one line.

Run as DVC runs the stage: from the project folder, with params.yaml.
"""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from file_server import FileServer, serving
from shard_band import write_band, write_mix
from stemscribe.checkpoint import CONFIG, PROVENANCE, WEIGHTS, load_model, load_programs, load_provenance, save_model
from stemscribe.config import StemTuning
from stemscribe.errors import CheckpointError, DataError, UsageError
from stemscribe.lightning_checkpoint import import_checkpoint
from stemscribe.model import YourMT3
from stemscribe.model.config import SMALL
from stemscribe.stages import base as base_stage
from stemscribe.stages.finetune import specialist_of
from stemscribe.training.resumable import locked
from stemscribe.training.run import train
from stemscribe.training.specialist import SpecialistTraining
from stemscribe.transcriber import Transcriber
from test_training import SHARED
from tiny_model import noise, small_model, tiny_config, tiny_model

REPOSITORY = Path(__file__).parents[1]
BASE = Path("models/base")
FILES = [CONFIG, WEIGHTS, PROVENANCE]
BASS = list(range(32, 40))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with params.yaml, in which Lightning checkpoints are those of the tiny model."""
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEMSCRIBE_DOWNLOADS_DIR", raising=False)
    monkeypatch.setattr(import_checkpoint, "__defaults__", (tiny_config(),))
    return tmp_path


@pytest.fixture
def checkpoint(project: Path) -> Path:
    path = project / "last.ckpt"
    entries = {"epoch": 3, "global_step": 7, "pytorch-lightning_version": "2.6.0"}
    torch.save({**entries, "state_dict": tiny_model().state_dict()}, path)
    return path


def stage(**settings: str) -> None:
    """Run the stage with these settings of `base:`."""
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text())
    params["base"] = {"source": "small", "sha256": "", "frame_head": "keep", **settings}
    path.write_text(yaml.safe_dump(params))
    base_stage.main([])


def refuses(kind: type[Exception], match: str) -> Any:
    return pytest.raises(kind, match=r"\A[^\n]*" + match + r"[^\n]*\Z")


def same_weights(one: YourMT3, other: YourMT3) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def trained(channels: list[int]) -> YourMT3:
    """A specialist whose weights are no longer the base's."""
    model, generator = small_model(channels), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.01 * torch.randn(weight.shape, generator=generator)
    return model


def test_a_model_folder_is_copied_as_it_is(project: Path) -> None:
    save_model("my base", small_model(), {"made": "here"})
    stage(source="my base")
    assert sorted(path.name for path in BASE.iterdir()) == sorted(FILES)
    assert all((BASE / name).read_bytes() == Path("my base", name).read_bytes() for name in FILES)


def test_the_shipped_base_is_copied_as_it_is_and_needs_no_digest(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage()
    assert all((BASE / name).read_bytes() == (base_stage.SHIPPED["small"] / name).read_bytes() for name in FILES)
    assert capsys.readouterr().out == "base: small\n"


def test_a_specialist_becomes_a_base_with_its_weights_and_its_history(project: Path) -> None:
    history = {"params": {"stems.bass": {"steps": 100}}, "inputs": {"models/base/model.safetensors": "12ab"}}
    save_model("models/bass", trained([4]), history, BASS)
    stage(source="models/bass")
    base = load_model(BASE)
    assert base.channels == tuple(range(13))
    assert load_programs(BASE) is None
    assert (BASE / WEIGHTS).read_bytes() == Path("models/bass", WEIGHTS).read_bytes()
    provenance = load_provenance(BASE)
    assert provenance["changes"] == ["a specialist for channels 4, now for all"]
    assert provenance["source"] == history
    assert provenance["inputs"] == {"models/bass": base_stage.model_digest(Path("models/bass"))}
    assert sorted(path.name for path in BASE.iterdir()) == sorted(FILES)
    with torch.no_grad():
        heard, specialist = noise(base.config), trained([4])
        assert torch.equal(base.encode(heard, [4]), specialist.encode(heard))
        assert torch.equal(base.encode(heard)[:, 4:5], specialist.encode(heard))
        assert torch.equal(base.generate(heard, [4], 20), specialist.generate(heard, max_length=20))


@pytest.mark.filterwarnings("ignore:::pytorch_lightning", "ignore:::dvclive")
def test_fine_tuning_goes_on_from_a_specialist_and_trains_a_fresh_frame_head(project: Path) -> None:
    save_model("before", tiny_model([4]), {}, BASS)
    stage(source="before", frame_head="add")
    mix = write_mix(Path("shards/mix"))
    shards = write_band(Path("shards/drums"), "drums")  # another stem than the one it knew
    base = load_model(BASE)
    assert base.frame_head is not None
    own = StemTuning(learning_rate=1e-3, steps=2)
    lesson = SpecialistTraining(specialist_of(base, [12]), shards, mix, SHARED, own, "frames", 1)
    with locked(Path("work")):
        assert train(lesson, Path("work"), "cpu", SHARED.patience, SHARED.gradient_clip).steps == 2
    after = torch.load("work/last.ckpt", weights_only=True)["state_dict"]
    start = {f"model.{key}": value for key, value in base.state_dict().items()}
    assert start.keys() == after.keys()
    for key in ("model.frame_head.linear.weight", "model.decoder.decoder.block.0.layer.0.layer_norm.weight"):
        assert not torch.equal(start[key], after[key])


def test_a_fresh_frame_head_is_added_and_nothing_else_changes(project: Path) -> None:
    save_model("full", tiny_model(), {"made": "here"})
    weights = []
    for _ in range(2):
        stage(source="full", frame_head="add")
        weights.append((BASE / WEIGHTS).read_bytes())
    assert weights[0] == weights[1]
    before, after = tiny_model().state_dict(), load_model(BASE).state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    added = after.keys() - before.keys()
    assert added
    assert all(key.startswith("frame_head.") for key in added)
    assert json.loads((BASE / CONFIG).read_text())["model"]["frame_head"] is not None
    assert load_provenance(BASE)["changes"] == ["a fresh frame head, which has learned nothing yet"]
    with torch.no_grad():
        heard = noise(tiny_config())
        assert torch.equal(load_model(BASE).encode(heard), tiny_model().encode(heard))


def test_a_model_that_has_a_frame_head_keeps_it(project: Path) -> None:
    save_model("mine", small_model(), {})
    stage(source="mine", frame_head="add")
    assert (BASE / WEIGHTS).read_bytes() == Path("mine", WEIGHTS).read_bytes()


def test_frames_asked_of_a_base_without_a_frame_head(project: Path) -> None:
    save_model("full", tiny_model(), {})
    stage(source="full")
    with refuses(UsageError, "this model has no frame head; decode tokens"):
        Transcriber(load_model(BASE), BASS, "frames")
    stage(source="full", frame_head="add")
    Transcriber(load_model(BASE), BASS, "frames")


def test_a_checkpoint_file_is_imported(checkpoint: Path) -> None:
    stage(source="last.ckpt")
    assert same_weights(load_model(BASE), tiny_model())
    provenance = load_provenance(BASE)
    assert provenance["changes"] == ["imported from a Lightning checkpoint"]
    assert provenance["source"]["imported"]["global_step"] == 7
    assert provenance["inputs"] == {"last.ckpt": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    assert sorted(path.name for path in BASE.iterdir()) == sorted(FILES)
    stage(source="last.ckpt", frame_head="add")  # what is there is replaced
    assert load_model(BASE).frame_head is not None


def test_an_address_is_fetched_checked_and_imported(checkpoint: Path) -> None:
    content = checkpoint.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    checkpoint.unlink()
    with serving(FileServer(content)) as server:
        with refuses(DataError, f"its sha256 is {digest}, not {'0' * 64}"):
            stage(source=server.address(), sha256="0" * 64)
        assert not BASE.exists()
        stage(source=server.address(), sha256=digest)
        shutil.rmtree(BASE)
        stage(source=server.address(), sha256=digest)
        assert server.asked == ["all"]
        assert load_provenance(BASE)["params"]["base"]["source"] == server.address()
    assert [path.suffix for path in Path("work/downloads").iterdir()] == [".ckpt"]
    assert same_weights(load_model(BASE), tiny_model())


def test_another_model_in_the_same_place_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model("mine", tiny_model(), {})
    stage(source="mine")
    hint = capsys.readouterr().out.splitlines()[-1]
    digest = hint.split()[4]
    assert hint == f"base: set base.sha256 to {digest} in params.yaml, and no other model takes its place unnoticed"
    by_hand = subprocess.run("sha256sum config.json model.safetensors | sha256sum", shell=True, cwd="mine", capture_output=True)
    assert by_hand.stdout.decode().split()[0] == digest
    stage(source="mine", sha256=digest)
    assert "sha256" not in capsys.readouterr().out
    save_model("mine", tiny_model([4]), {})  # only the config differs
    other = base_stage.model_digest(Path("mine"))
    with refuses(CheckpointError, f"mine is another model than base.sha256 .* says, it has {other}; restore it, or write"):
        stage(source="mine", sha256=digest)
    assert load_model(BASE).channels == tuple(range(13))  # what was there before


def test_a_config_that_disagrees_with_the_weights(project: Path) -> None:
    save_model("mine", tiny_model(), {})
    whole = json.loads(Path("mine", CONFIG).read_text())

    def claim(**fields: Any) -> None:
        Path("mine", CONFIG).write_text(json.dumps({**whole, "model": {**whole["model"], **fields}}))

    claim(d_ff=2 * whole["model"]["d_ff"])
    with refuses(CheckpointError, "was saved with d_ff 96, but config.json says 192"):
        stage(source="mine")
    save_file(load_file(Path("mine", WEIGHTS)), Path("mine", WEIGHTS))  # as others write them: without our header
    with refuses(CheckpointError, "wi_0.weight is torch.float32 .* but config.json asks for"):
        stage(source="mine")
    claim(decoder_layers=whole["model"]["decoder_layers"] + 1)
    with refuses(CheckpointError, "lacks decoder.decoder.block.* config.json describes another model"):
        stage(source="mine")
    claim(frame_head=json.loads(json.dumps(SMALL.to_json()["frame_head"])))
    with refuses(CheckpointError, "lacks frame_head.* config.json describes another model"):
        stage(source="mine")
    assert not BASE.exists()


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 1.5])
def test_thresholds_out_of_range(threshold: float, project: Path) -> None:
    save_model("mine", small_model(), {})
    whole = json.loads(Path("mine", CONFIG).read_text())
    whole["model"]["frame_head"]["active_threshold"] = threshold
    Path("mine", CONFIG).write_text(json.dumps(whole))
    with refuses(CheckpointError, r"config\.json: .*threshold.* between 0 and 1"):
        stage(source="mine")


def test_what_is_missing_or_no_model(project: Path) -> None:
    with refuses(UsageError, "no model folder or checkpoint 'nowhere'; give small, the path of one, or the address"):
        stage(source="nowhere")
    save_model("mine", tiny_model(), {})
    with refuses(UsageError, "is a part of a model folder; name the folder"):
        stage(source=f"mine/{WEIGHTS}")
    weights = load_file(Path("mine", WEIGHTS))
    save_file(weights, "weights.safetensors")
    with refuses(CheckpointError, "weights.safetensors is no checkpoint"):
        stage(source="weights.safetensors")
    Path("empty").mkdir()
    with refuses(CheckpointError, r"empty is no model folder: it has no config.json"):
        stage(source="empty")
    Path("mine", WEIGHTS).write_bytes(Path("mine", WEIGHTS).read_bytes()[:-8])
    with refuses(CheckpointError, r"model\.safetensors is truncated"):
        stage(source="mine")
    assert not BASE.exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"source": ""}, "base.source: expected small, a path or an address"),
        ({"sha256": "ae38e415"}, "base.sha256: expected all 64"),
        ({"sha256": "A" * 64}, "base.sha256: expected all 64"),
        ({"frame_head": "yes"}, "base.frame_head: expected keep or add"),
        ({"source": "s3://bucket/last.ckpt"}, "must begin with https:// or http://"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, str], complaint: str, project: Path) -> None:
    with refuses(UsageError, complaint):
        stage(**settings)
