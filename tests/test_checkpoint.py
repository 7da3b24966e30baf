"""Model folders: what is saved comes back to the bit; what does not fit is refused in one line with the way out."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stemscribe import checkpoint
from stemscribe.checkpoint import CONFIG, PROVENANCE, WEIGHTS, load_channels, load_model, load_provenance, save_model
from stemscribe.errors import CheckpointError, StemscribeError
from stemscribe.model import SMALL
from tiny_model import noise, small_model, tiny_weights


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "bass", small_model([4]), {"source": "a test", "steps": 0})
    return tmp_path / "bass"


def refuses(match: str):
    return pytest.raises(CheckpointError, match=r"\A[^\n]*" + match + r"[^\n]*\Z")


def edit_config(folder, **changes):
    content = json.loads((folder / CONFIG).read_text())
    content["model"].update(changes)
    (folder / CONFIG).write_text(json.dumps(content))


def edit_weights(folder, change):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def test_a_model_comes_back_to_the_bit(folder):
    saved, loaded = small_model([4]), load_model(folder)
    assert loaded.channels == (4,)
    assert loaded.config == SMALL
    assert not loaded.training
    expected = saved.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    with torch.no_grad():
        assert torch.equal(loaded.encode(noise(SMALL, 1)), saved.encode(noise(SMALL, 1)))


def test_the_folder_holds_three_files_and_the_provenance_is_readable(folder):
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG, PROVENANCE}
    assert load_provenance(folder) == {"source": "a test", "steps": 0}


def test_the_same_model_gives_the_same_bytes(folder, tmp_path):
    save_model(tmp_path / "again", small_model([4]), {"source": "a test", "steps": 0})
    for name in (WEIGHTS, CONFIG, PROVENANCE):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_saving_takes_the_memory_of_no_second_model(tmp_path, monkeypatch):
    model, written = small_model(), {}
    monkeypatch.setattr(checkpoint, "save_file", lambda weights, path, **_: (written.update(weights), save_file(weights, path)))
    save_model(tmp_path / "small", model, {})
    state = model.state_dict()
    copied = [key for key, value in state.items() if written[key].data_ptr() != value.data_ptr()]
    # what is in channels_last, shares memory, or lies in a part of some
    assert sum(state[key].nbytes for key in copied) < 0.02 * sum(value.nbytes for value in state.values())
    assert len({tensor.data_ptr() for tensor in written.values()}) == len(written)


def test_a_part_of_a_larger_memory_is_saved_alone(tmp_path):
    model = small_model()
    large = torch.cat((model.embed_tokens.weight.detach(), torch.ones(1000, 192)))
    model.embed_tokens.weight = torch.nn.Parameter(large[:596])
    save_model(tmp_path / "small", model, {})
    assert torch.equal(load_model(tmp_path / "small").embed_tokens.weight, large[:596])


def test_the_channels_of_a_folder_are_known_without_its_weights(folder):
    (folder / WEIGHTS).unlink()
    assert load_channels(folder) == (4,)


def test_a_specialist_can_be_loaded_for_all_channels_again(folder):
    assert load_model(folder, channels=range(13)).channels == tuple(range(13))


def test_saving_replaces_the_folder_as_a_whole(folder):
    (folder / "left over").touch()
    save_model(folder, small_model([12]), {})
    assert load_model(folder).channels == (12,)
    assert not (folder / "left over").exists()


def test_a_missing_folder(tmp_path):
    with refuses("no model folder"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with refuses(f"{name} is missing"):
        load_model(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file(folder, share):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(share * len(content))])
    with refuses("truncated or no safetensors file"):
        load_model(folder)


@pytest.mark.parametrize("content", ['{"model": ', "[" * 200_000])
def test_broken_json(folder, content):
    (folder / CONFIG).write_text(content)
    with refuses("cannot be read as JSON"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sample_rate": 8000}, "sample_rate is 8000; only models for 16000 Hz can be read"),
        ({"d_ff": 10**30}, "describes no model that can be built"),
        ({"d_ff": 10**18}, "describes no model that can be built"),
    ],
)
def test_a_config_that_no_model_of_ours_can_have_is_refused(folder, change, expected):
    edit_weights(folder, lambda weights: None)  # written without our header
    content = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**content, "model": {**content["model"], **change}}))
    with refuses(expected):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"eos": 2}, "was saved with eos 1, but config.json says 2"),
        ({"top_k": 1}, "was saved with top_k 2, but config.json says 1"),
        ({"scale_head": True}, "was saved with scale_head false, but config.json says true"),
        ({"blocks": 10**9}, "was saved with blocks 1, but config.json says 1000000000"),  # before any is built
    ],
)
def test_a_config_that_fits_by_shape_and_is_another(folder, change, expected):
    edit_config(folder, **change)
    with refuses(expected):
        load_model(folder)


@pytest.mark.parametrize(
    ("ear", "field", "value"),
    [("harmonic", "windows", [2048, 4096]), ("harmonic", "unpitched", []), ("percussive", "window", 2048)],
)
def test_an_ear_that_fits_by_shape_and_is_another(folder, ear, field, value):
    content = json.loads((folder / CONFIG).read_text())
    content["model"]["frame_head"][ear][field] = value
    (folder / CONFIG).write_text(json.dumps(content))
    with refuses(f"was saved with frame_head.{ear}.{field}"):
        load_model(folder)


def test_thresholds_and_dropout_may_change_after_training(folder):
    content = json.loads((folder / CONFIG).read_text())
    content["model"]["frame_head"].update(active_threshold=0.4, onset_thresholds=[0.2] * 13, exceptions=[[12, 36, 0.7]])
    content["model"].update(decoder_dropout=0.2, max_length=512)
    (folder / CONFIG).write_text(json.dumps(content))
    loaded = load_model(folder).config
    assert loaded.frame_head is not None
    assert (loaded.frame_head.active_threshold, loaded.decoder_dropout, loaded.max_length) == (0.4, 0.2, 512)


def test_weights_that_do_not_tell_their_architecture_are_read_by_the_config(folder):
    edit_weights(folder, lambda weights: None)  # written without our header
    edit_config(folder, top_k=1)
    assert load_model(folder).config.top_k == 1


@pytest.mark.parametrize("told", ["", "[]", "{"])
def test_an_architecture_that_cannot_be_read(folder, told):
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata={"architecture": told})
    with refuses("is no JSON object"):
        load_model(folder)


@pytest.mark.parametrize("content", [[], {"model": {}}, {"model": 3, "channels": [4]}, {"model": {}, "channels": "4"}])
def test_a_config_of_another_form(folder, content):
    (folder / CONFIG).write_text(json.dumps(content))
    with refuses(CONFIG):
        load_model(folder)


def test_an_unknown_config_key(folder):
    edit_config(folder, hopp=3)
    with refuses("unknown key 'hopp'; did you mean 'hop'"):
        load_model(folder)


def test_a_channel_that_does_not_exist(folder):
    content = json.loads((folder / CONFIG).read_text())
    for channels in ([13], [], [-1, 4], [4, 4]):
        (folder / CONFIG).write_text(json.dumps({**content, "channels": channels}))
        with refuses("channels are"):
            load_model(folder, channels=range(13))


def test_a_weight_too_few(folder):
    edit_weights(folder, lambda weights: weights.pop("pre_decoder.0.linear.weight"))
    with refuses("lacks pre_decoder.0.linear.weight; config.json describes another model"):
        load_model(folder)


def test_a_weight_too_many(folder):
    edit_weights(folder, lambda weights: weights.update(pitchshift=torch.zeros(1)))
    with refuses("has unknown pitchshift"):
        load_model(folder)


def test_a_weight_of_another_shape(folder):
    edit_weights(folder, lambda weights: weights.update({"embed_tokens.weight": torch.zeros(600, 192)}))
    with refuses(r"embed_tokens.weight is torch.float32 \(600, 192\) but config.json asks for"):
        load_model(folder)


def test_a_weight_of_another_type(folder):
    edit_weights(folder, lambda weights: weights.update({"embed_tokens.weight": torch.zeros(596, 192).half()}))
    with refuses("embed_tokens.weight is torch.float16"):
        load_model(folder)


def test_weights_of_another_model(folder):
    save_file(tiny_weights(), folder / WEIGHTS)
    with refuses("and [0-9]+ more; config.json describes another model"):
        load_model(folder)


def test_copies_of_the_rotary_frequencies_that_disagree(folder):
    key = "encoder.blocks.0.temporal_transformer.1.attention.self.rotary_emb.freqs"
    edit_weights(folder, lambda weights: weights.update({key: weights[key] + 1}))
    with refuses("freqs differs from its other copies"):
        load_model(folder)


def test_diverged_weights_are_neither_saved_nor_loaded(folder, tmp_path):
    model = small_model([4])
    with torch.no_grad():
        model.embed_tokens.weight[3, 3] = float("nan")
    with refuses("NaN or infinite weights in embed_tokens.weight"):
        save_model(tmp_path / "diverged", model, {})
    assert not (tmp_path / "diverged").exists()
    edit_weights(folder, lambda weights: weights["embed_tokens.weight"].fill_(float("inf")))
    with refuses("NaN or infinite weights in embed_tokens.weight"):
        load_model(folder)


def test_a_full_disk_is_one_line_and_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "model", small_model(), {"take": 1})

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StemscribeError, match=r"cannot write .*model: I/O error: No space left on device .*; free some space"):
        save_model(tmp_path / "model", small_model(), {"take": 2})
    assert load_provenance(tmp_path / "model") == {"take": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
