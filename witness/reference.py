"""What the reference computes at every stage, written down: `python -m witness.reference`, in .venv-reference.

The promise: nothing is recomputed here. The wheel's own `forward` and `inference` run on real music, and hooks keep what
passes. For a single channel the wheel's single-channel class runs (`-dec t5`, one stream of tokens) with the same weights; its
wider projection is zero but for the two latents of that channel.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from witness.wheel import YourMT3, build, randomise

SINGLE_CHANNELS = (4, 11, 12)  # bass, singing, drums
MAX_LENGTH = 256
PROJECTION = "pre_decoder.0.projection_layer.weight"
SHARED_LINEAR = "pre_decoder.0.linear.weight"


def main(argv: Sequence[str] | None = None) -> None:
    """Write `weights.safetensors` and `record.safetensors`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--music", type=Path, required=True, help="waveform (B, N) and labels (B, 13, 256)")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    music = load_file(arguments.music)
    model = build()
    randomise(model, arguments.seed)
    with torch.no_grad():
        record = stages(model, music["waveform"], music["labels"]) | decoded(model, music["waveform"])
        single = build(decoder="t5")
        for channel in SINGLE_CHANNELS:
            record |= single_channel(model, single, channel, music["waveform"], music["labels"])
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous().clone() for key, value in record.items()}, arguments.output / "record.safetensors")
    weights = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    save_file(weights, arguments.output / "weights.safetensors")


@contextmanager
def kept(modules: dict[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """The outputs of modules while they run, by name, in their order."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in modules}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            tensor = output if isinstance(output, Tensor) else output[0]
            outputs[name].append(tensor.detach().clone())

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def stages(model: YourMT3, waveform: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Teacher-forced: each stage, `training_logits` and `loss` of `forward`, and `logits` as `inference` scales them."""
    blocks = {f"block_{number}": block for number, block in enumerate(model.encoder.blocks)}
    gates = {name: module for name, module in model.encoder.named_modules() if name.endswith("mlp.gate")}
    parts = {
        **{"spectrogram": model.spectrogram, "pre_encoder": model.pre_encoder, "encoder": model.encoder},
        **{"projected": model.pre_decoder, "hidden": model.decoder, **blocks, **gates},
    }
    with kept(parts) as outputs:
        answer = model(waveform.unsqueeze(1), labels)
    record = {name: values[0] for name, values in outputs.items() if name not in gates}
    routed = torch.cat([outputs[name][0].softmax(-1).topk(3).values.flatten(0, -2) for name in gates])
    record["router_margin"] = (routed[:, 1] - routed[:, 2]).min()
    record["logits"] = model.lm_head(record["hidden"])
    return record | {"training_logits": answer["logits"], "loss": answer["loss"]}


def decoded(model: YourMT3, waveform: Tensor) -> dict[str, Tensor]:
    """Greedy `tokens (B, C, L)`, and by how much each was preferred to the next best, `gaps (B, C, L)`.

    A gap is a share of the largest logit in magnitude, which is how deviations are measured as well.
    """
    with kept({"head": model.lm_head}) as outputs:
        tokens = model.inference(waveform.unsqueeze(1), max_token_length=MAX_LENGTH)
    best = [logits.topk(2, dim=-1).values for logits in outputs["head"]]
    largest = max(float(logits.abs().max()) for logits in outputs["head"])
    gaps = torch.cat([(values[..., 0] - values[..., 1]) / largest for values in best], dim=-1)
    return {"tokens": tokens, "gaps": gaps.reshape(tokens.shape)}


def single_channel(model: YourMT3, single: YourMT3, channel: int, waveform: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What the single-channel class computes with the weights of `model` for one channel of the first segment."""
    state = model.state_dict()
    shared = state.pop(SHARED_LINEAR)
    width = shared.shape[1]
    state[PROJECTION] = torch.zeros_like(single.state_dict()[PROJECTION])
    state[PROJECTION][:, channel * width : (channel + 1) * width] = shared
    single.load_state_dict(state, strict=True)
    with kept({"head": single.lm_head}) as outputs:
        answer = single(waveform[:1].unsqueeze(1), labels[:1, channel : channel + 1])
    training_logits = outputs["head"][0].reshape(1, 1, *outputs["head"][0].shape[-2:])
    record = {"training_logits": training_logits, "loss": answer["loss"], **decoded(single, waveform[:1])}
    return {f"single_{channel}.{name}": value for name, value in record.items()}


if __name__ == "__main__":
    main()
