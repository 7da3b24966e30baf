"""A checkpoint of the reference's own making: the wheel's LightningModule, trained for a step and saved by Lightning's trainer.

`python -m witness.lightning tiny` wrote the folder, at sizes that can be kept here; `make parity` does the same at full size.
"""

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lightning_files import FOLDER, GENUINE, config
from stemscribe.checkpoint import load_model, load_provenance
from stemscribe.cli import main
from stemscribe.lightning_checkpoint import import_checkpoint
from tiny_model import relative

FOREIGN = (
    *("utils.task_manager.TaskManager", "utils.tokenizer.NoteEventTokenizer", "utils.event_codec.FastCodec"),
    *("utils.note_event_dataclasses.Event", "utils.note_event_dataclasses.EventRange"),
)


@pytest.fixture
def traps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The authors' modules, with classes that tell when they are touched; what they told."""
    told: list[str] = []

    class Trap:
        def __new__(cls, *arguments: Any) -> Any:
            told.append(f"a {cls.__name__} is made")
            return super().__new__(cls)

        def __setstate__(self, state: Any) -> None:
            told.append(f"a {type(self).__name__} is filled")

    monkeypatch.setitem(sys.modules, "utils", types.ModuleType("utils"))
    for name in FOREIGN:
        module, _, kind = name.rpartition(".")
        planted = sys.modules.get(module) or types.ModuleType(module)
        setattr(planted, kind, type(kind, (Trap,), {}))
        monkeypatch.setitem(sys.modules, module, planted)
    return told


def test_it_holds_the_authors_objects_and_torch_alone_refuses_it() -> None:
    assert set(FOREIGN) <= set(torch.serialization.get_unsafe_globals_in_checkpoint(GENUINE))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(GENUINE, weights_only=True)


def test_imported_it_computes_the_logits_of_the_reference(tmp_path: Path) -> None:
    import_checkpoint(GENUINE, tmp_path / "imported", config())
    model, record = load_model(tmp_path / "imported"), load_file(FOLDER / "record.safetensors")
    with torch.no_grad():
        logits = model.training_logits(model(record["waveform"], record["labels"]))
    assert relative(logits, record["training_logits"]) < 1e-4  # measured: 3.5e-7


def test_what_is_no_weight_is_left_out_and_named(tmp_path: Path) -> None:
    import_checkpoint(GENUINE, tmp_path / "imported", config())
    facts = load_provenance(tmp_path / "imported")["imported"]
    assert (facts["model"], facts["norm"], facts["global_step"]) == ("YPTF.MoE+Multi", "layer", 1)
    assert {"hyper_parameters", "optimizer_states", "lr_schedulers", "callbacks", "loops"} <= set(facts["dropped_entries"])
    assert sum(path.stat().st_size for path in (tmp_path / "imported").iterdir()) < GENUINE.stat().st_size / 2


def test_nothing_in_it_is_run_even_if_its_program_is_at_hand(traps: list[str], tmp_path: Path) -> None:
    import_checkpoint(GENUINE, tmp_path / "imported", config())
    assert traps == []
    torch.load(GENUINE, weights_only=False)  # the traps do work
    assert {"a TaskManager is made", "a TaskManager is filled"} <= set(traps)


def test_nothing_of_its_program_is_imported(tmp_path: Path) -> None:
    before = set(sys.modules)
    import_checkpoint(GENUINE, tmp_path / "imported", config())
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] in ("utils", "model", "yourmt3")}


def test_a_small_one_is_no_published_size_and_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import-checkpoint", str(GENUINE)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "is YPTF.MoE+Multi (32 positions instead of 1034); only YPTF.MoE+Multi of the published sizes" in err
    assert not Path("models").exists()
