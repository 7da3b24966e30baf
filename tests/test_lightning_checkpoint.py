"""The published checkpoint becomes a model folder; whatever else calls itself a checkpoint is refused, and nothing in it runs.

The files are written by Lightning's own trainer and hold objects of a program that is gone when they are read.
"""

import copy
import hashlib
import json
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_files import imports, refuses
from stemscribe import lightning_checkpoint, torch_archive
from stemscribe.checkpoint import load_model, load_provenance
from stemscribe.cli import main
from stemscribe.errors import UsageError
from stemscribe.lightning_checkpoint import PUBLISHED_SHA256, import_checkpoint
from stemscribe.model import YourMT3
from tiny_model import noise, tiny_config, tiny_model

FOREIGN = """
class Event(tuple): pass
class Codec(dict): pass
class Events(list): pass
class Odd:
    def __reduce__(self): return odd, (3,), {"state": 1}, iter([1, 2]), iter([(1, 2)])
    def append(self, item): pass
    def __setitem__(self, key, value): pass
def odd(number): return Odd()
class TaskManager:
    def __init__(self, numbers):
        self.numbers = numbers
        self.codec = Codec(shift=Events([1, 2]))
        self.events = {Event((1, 2)): 3}
        self.decode = self.decoded
        self.odd = Odd()
    def decoded(self): pass
    def __setstate__(self, state): self.__dict__.update(state)
"""
LEFT_OUT = ["callbacks", "hparams_name", "hyper_parameters", "loops", "lr_schedulers", "optimizer_states"]
EMBEDDING = "embed_tokens.weight"
Change = Callable[[dict[str, Any]], Any]


@contextmanager
def foreign_program() -> Iterator[Any]:
    """A module `utils.task_manager` that can be imported in here and nowhere else."""
    package, module = types.ModuleType("utils"), types.ModuleType("utils.task_manager")
    exec(FOREIGN, module.__dict__)
    sys.modules.update({"utils": package, "utils.task_manager": module})
    try:
        yield module
    finally:
        del sys.modules["utils"], sys.modules["utils.task_manager"]


class Published(pl.LightningModule):
    """A model as its authors trained it: the parts under their own names, and everything else in the hyper-parameters."""

    def __init__(self, model: YourMT3, task_manager: object) -> None:
        super().__init__()
        self.save_hyperparameters({"task_manager": task_manager, "learning_rate": 1e-3, "sizes": np.arange(3)})
        for name, part in model.named_children():
            self.add_module(name, part)

    def training_step(self, batch: Tensor) -> Tensor:
        return self.lm_head.lm_head.weight.square().mean() * batch.mean()

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader([torch.ones(1)] * 2)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        return [optimizer], [torch.optim.lr_scheduler.ConstantLR(optimizer)]


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, YourMT3]:
    """A checkpoint of the tiny model, written by Lightning after two steps, and the model in it."""
    folder, model = tmp_path_factory.mktemp("lightning"), tiny_model()
    with foreign_program() as program, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, default_root_dir=folder,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[pl.callbacks.ModelCheckpoint(folder)],
        )  # fmt: skip
        trainer.fit(Published(model, program.TaskManager(np.arange(32, 40))))
        trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt", model.eval()


@pytest.fixture(scope="module")
def content(genuine: tuple[Path, YourMT3]) -> dict[str, Any]:
    """What is in the genuine file, save for the foreign objects; not to be changed."""
    _, model = genuine
    return {
        **{"epoch": 1, "global_step": 2, "pytorch-lightning_version": "2.6.0", "state_dict": model.state_dict()},
        **{"loops": {}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": [], "hyper_parameters": {}},
    }


@pytest.fixture
def changed(tmp_path: Path, content: dict[str, Any]) -> Callable[[Change], Path]:
    """Writes the content with a change."""

    def write(change: Change) -> Path:
        other = {**content, "state_dict": copy.copy(content["state_dict"])}
        change(other)
        torch.save(other, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    return write


@pytest.fixture(scope="module")
def imported(genuine: tuple[Path, YourMT3]) -> Path:
    path, _ = genuine
    assert "utils" not in sys.modules
    import_checkpoint(path, path.parent / "imported", tiny_config())
    assert "utils" not in sys.modules
    return path.parent / "imported"


def test_the_file_is_as_lightning_writes_it_and_torch_alone_refuses_it(genuine: tuple[Path, YourMT3]) -> None:
    names = set(torch.serialization.get_unsafe_globals_in_checkpoint(genuine[0]))
    assert {"utils.task_manager.TaskManager", "utils.task_manager.Codec", "builtins.getattr"} <= names
    with pytest.raises(pickle.UnpicklingError):
        torch.load(genuine[0], weights_only=True)


def test_stubs_for_torch_load_are_not_enough(genuine: tuple[Path, YourMT3]) -> None:
    """Why there is a reader of our own: torch's refuses a foreign class that is a list or a dict, stub or not."""
    names = torch.serialization.get_unsafe_globals_in_checkpoint(genuine[0])
    stubs: list[Any] = [(torch_archive.Inert, name) for name in names]
    with torch.serialization.safe_globals(stubs), pytest.raises(pickle.UnpicklingError, match="Can only"):
        torch.load(genuine[0], weights_only=True)


def test_the_imported_model_is_the_source_to_the_bit(genuine: tuple[Path, YourMT3], imported: Path) -> None:
    source, loaded = genuine[1], load_model(imported)
    tokens = torch.tensor([[[0, 5, 9]] * tiny_config().channels])
    assert loaded.channels == tuple(range(tiny_config().channels))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in loaded.state_dict().items())
    with torch.no_grad():
        assert torch.equal(loaded(noise(tiny_config(), 1), tokens), source(noise(tiny_config(), 1), tokens))


def test_the_provenance_names_the_file_and_what_was_left_out(genuine: tuple[Path, YourMT3], imported: Path) -> None:
    facts, path = load_provenance(imported), genuine[0]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["inputs"] == {"last.ckpt": digest}
    assert facts["imported"] == {
        "file": "last.ckpt",
        "bytes": path.stat().st_size,
        "sha256": digest,
        "is_the_published_file": False,
        "model": "YPTF.MoE+Multi",
        "norm": "layer",
        "epoch": 1,
        "global_step": 2,
        "pytorch_lightning": pl.__version__,
        "dropped_weights": [],
        "dropped_entries": LEFT_OUT,
    }


def test_the_published_file_is_known_by_its_hash(changed: Callable[[Change], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning_checkpoint, "sha256_file", lambda path: PUBLISHED_SHA256)
    assert imports(changed(lambda content: None), tiny_config())["is_the_published_file"] is True
    assert PUBLISHED_SHA256.startswith("ae38e415")
    assert PUBLISHED_SHA256.endswith("fc25")
    assert len(PUBLISHED_SHA256) == 64


def test_an_encoder_without_biases_in_its_norms_has_rms_norms(tmp_path: Path) -> None:
    model = YourMT3(replace(tiny_config(), norm="rms"))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "rms.ckpt")
    assert imports(tmp_path / "rms.ckpt", tiny_config())["norm"] == "rms"
    assert load_model(tmp_path / "imported").config.norm == "rms"


def test_a_pitch_shifter_is_left_out_and_named(changed: Callable[[Change], Path]) -> None:
    found = imports(changed(lambda content: content["state_dict"].update({"pitchshift.kernel": torch.ones(3)})), tiny_config())
    assert found["dropped_weights"] == ["pitchshift.kernel"]
    assert found["model"] == "YPTF.MoE+Multi (PS)"


def test_parameters_and_views_are_weights_too(changed: Callable[[Change], Path], content: dict[str, Any]) -> None:
    embedding = content["state_dict"][EMBEDDING]
    transposed = embedding.t().contiguous().t()  # same numbers, other strides
    assert transposed.stride() != embedding.stride()
    path = changed(lambda content: content["state_dict"].update({EMBEDDING: torch.nn.Parameter(transposed)}))
    imports(path, tiny_config())
    assert torch.equal(load_model(path.parent / "imported").embed_tokens.weight, embedding)


def take(key: str) -> Change:
    return lambda content: content["state_dict"].pop(key)


def put(key: str, value: Callable[[Tensor], Any]) -> Change:
    return lambda content: content["state_dict"].update({key: value(content["state_dict"].get(key))})


FREQUENCIES = "encoder.blocks.0.temporal_transformer.0.attention.self.rotary_emb.freqs"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (take("lm_head.lm_head.weight"), r"lacks lm_head.lm_head.weight; it is no YPTF.MoE\+Multi"),
        (put("model.extra", lambda _: torch.ones(1)), "has unknown model.extra"),
        (put("line\nbreak", lambda _: torch.ones(1)), "no named tensor"),
        (put("extra", lambda _: "text"), r"no named tensor \(extra\)"),
        (put("lm_head.lm_head.weight", lambda w: w[:, :-1].clone()), r"lm_head.lm_head.weight is torch.float32 \(.+\) but"),
        (put(EMBEDDING, lambda w: w.bfloat16()), "embed_tokens.weight is torch.bfloat16"),
        (put(EMBEDDING, lambda w: w.index_fill(0, torch.tensor(3), float("nan"))), f"NaN or infinite weights in {EMBEDDING}"),
        (put(FREQUENCIES, lambda w: w + 1), "freqs differs from its other copies"),
    ],
)
def test_weights_that_do_not_fit(changed: Callable[[Change], Path], change: Change, match: str) -> None:
    with refuses(match):
        imports(changed(change), tiny_config())


def single(content: dict[str, Any]) -> None:
    weights = content["state_dict"]
    linear = weights.pop("pre_decoder.0.linear.weight")
    weights["pre_decoder.0.projection_layer.weight"] = linear.repeat(1, 13)


def without_experts(content: dict[str, Any]) -> None:
    weights = content["state_dict"]
    for key in [key for key in weights if ".mlp." in key]:
        del weights[key]
        weights[f"{key.split('.mlp.')[0]}.mlp.dense1.weight"] = torch.ones(2, 2)


def t5_encoder(content: dict[str, Any]) -> None:
    weights = content["state_dict"]
    for key in [key for key in weights if key.startswith(("encoder.", "pre_"))]:
        del weights[key]
    weights["encoder.encoder.block.0.layer.0.SelfAttention.q.weight"] = torch.ones(2, 2)


def singly_without_experts(content: dict[str, Any]) -> None:
    single(content)
    without_experts(content)
    content["state_dict"]["pitchshift.kernel"] = torch.ones(1)


def somebody_elses(content: dict[str, Any]) -> None:
    content["state_dict"] = {"layer.weight": torch.ones(2)}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (single, r"is YPTF.MoE\+Single \(`-dec t5`, one stream of tokens instead of one for each channel\)"),
        (without_experts, r"is YPTF\+Multi \(no mixture of experts\)"),
        (singly_without_experts, r"is YPTF\+Single \(PS\) \(no mixture of experts, `-dec t5`"),
        (t5_encoder, r"is YMT3\+ \(a T5 encoder\)"),
        (somebody_elses, r"is another model \(1 weights and none of the expected names\)"),
        (put(EMBEDDING, lambda w: w.repeat(2, 1)), r"is YPTF.MoE\+Multi \(\d+ tokens in the vocabulary instead of \d+\)"),
        (put("encoder.latent_array.latents", lambda w: w[:24].clone()), r"\(24 latents instead of 26\)"),
        (put("decoder.decoder.additive_pe.weight", lambda w: w[:9].clone()), r"\(9 positions instead of \d+\)"),
    ],
)
def test_another_model_of_the_family_is_named(changed: Callable[[Change], Path], change: Change, match: str) -> None:
    with refuses(match + r".*; only YPTF.MoE\+Multi of the published sizes can be imported"):
        imports(changed(change), tiny_config())


def test_an_output_that_is_there_stays(genuine: tuple[Path, YourMT3], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "song.mid").touch()
    with pytest.raises(UsageError, match="mine is there already; remove it, or name another folder with --output"):
        import_checkpoint(genuine[0], tmp_path / "mine", tiny_config())
    assert (tmp_path / "mine" / "song.mid").exists()


@pytest.fixture
def tiny_is_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(import_checkpoint, "__defaults__", (tiny_config(),))
    monkeypatch.chdir(tmp_path)


def test_the_command_line_imports(
    tiny_is_full: None, genuine: tuple[Path, YourMT3], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import-checkpoint", str(genuine[0])]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "not the published file" in out
    assert "left out: callbacks, hparams_name, " in out
    assert load_model("models/yourmt3").config == tiny_config()
    assert main(["import-checkpoint", str(genuine[0]), "--output", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == load_provenance("other")["imported"]


@pytest.mark.parametrize(
    ("name", "match"), [("none.ckpt", "no such file"), (".", "is a folder"), ("song.wav", "is no checkpoint")]
)
def test_the_command_line_refuses_in_one_line(
    tiny_is_full: None, capsys: pytest.CaptureFixture[str], name: str, match: str
) -> None:
    Path("song.wav").write_bytes(b"RIFF....WAVE")
    assert main(["import-checkpoint", name]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("stemscribe: ")
    assert match in err
    assert len(err.splitlines()) == 1
    assert not Path("models").exists()


def test_a_model_of_other_sizes_is_refused(genuine: tuple[Path, YourMT3], tmp_path: Path) -> None:
    with refuses("lacks |instead of|but YPTF"):
        import_checkpoint(genuine[0], tmp_path / "imported")
