"""The wheel's YPTF.MoE+Multi, built as its own program builds it, and filled with random weights. Runs in .venv-reference.

The promise: every number in the state dict is drawn from the seed, save for the window of the Fourier transform. Norms,
biases, running statistics, rotary frequencies and positions are not what a fresh model has either, so that using the wrong one
cannot go unnoticed. The scale is one at which a trained network works: what a layer adds is about as large as what it receives,
attention prefers some places and routers some experts.
"""

import sys
import types
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

MODEL = "YPTF.MoE+Multi"
EOS = 1
EOS_BOOST = 2.0  # a longer output row: some streams shall end before the limit
EMBEDDING = 2.0  # size of token embeddings beside positions of 0.7: what was said last shall matter
SHARPNESS = 3.0  # spread of the scores of attention in the decoder; at 1 all frames and tokens would be heard alike


def torchaudio_without_cuda() -> None:
    """Import torchaudio, which the wheel needs, also where its extension finds no CUDA libraries (as in `stemscribe.audio`)."""
    try:
        import torchaudio  # noqa: F401
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        absent: Any = types.ModuleType("torchaudio._extension")
        absent._IS_TORCHAUDIO_EXT_AVAILABLE = absent._IS_ALIGN_AVAILABLE = False
        absent._check_cuda_version = lambda: None
        absent.fail_if_no_align = lambda function: function
        sys.modules["torchaudio._extension"] = absent


torchaudio_without_cuda()

import yourmt3  # noqa: E402
from yourmt3.config.config import shared_cfg  # noqa: E402
from yourmt3.config.vocabulary import drum_vocab_presets, program_vocab_presets  # noqa: E402
from yourmt3.model.init_train import update_config  # noqa: E402
from yourmt3.model.ymt3 import YourMT3  # noqa: E402
from yourmt3.utils.task_manager import TaskManager  # noqa: E402

torch.set_float32_matmul_precision("highest")  # the wheel allows TF32 when it is imported


def build(
    name: str = MODEL,
    decoder: str | None = None,
    sizes: Mapping[str, Mapping[str, Any]] | None = None,
    max_steps: int = -1,
) -> YourMT3:
    """The wheel's Lightning module, fresh, in evaluation mode.

    Args:
        name: of the model, in the wheel's words.
        decoder: "t5" for one stream of tokens instead of one for each channel.
        sizes: changes to the configuration, by its parts "audio", "encoder", "decoder", "model".
        max_steps: of a training, for its schedule.
    """
    arguments = yourmt3.model_name2conf(name, "32")
    if decoder is not None:
        arguments.decoder_type = decoder
    shared, audio, model = (deepcopy(part) for part in update_config(arguments, deepcopy(shared_cfg), stage="test"))
    shared["AUGMENTATION"]["train_pitch_shift_range"] = [0, 0]  # the published variant has no pitch shifter
    for part, changes in (sizes or {}).items():
        {
            "audio": audio,
            "encoder": model["encoder"][model["encoder_type"]],
            "decoder": model["decoder"][model["decoder_type"]],
            "model": model,
        }[part].update(changes)
    shift_steps = int(shared["TOKENIZER"]["max_shift_steps"])
    return YourMT3(
        audio_cfg=audio,
        model_cfg=model,
        shared_cfg=shared,
        max_steps=max_steps,
        task_manager=TaskManager(task_name=arguments.task, max_shift_steps=shift_steps),
        eval_vocab=[program_vocab_presets["gm_plus"]],
        eval_drum_vocab=drum_vocab_presets["ksh"],
    ).eval()


def randomise(model: YourMT3, seed: int) -> None:
    """Draw all weights and statistics of `model` anew; see the module's text.

    Raises:
        ValueError: if a tensor is left constant, so that it would witness nothing.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor, scale: float, mean: float = 0.0) -> Tensor:
        return mean + scale * torch.randn(like.shape, generator=generator)

    heads = model.model_cfg["decoder"][model.decoder_type]["num_heads"]
    drawn: set[int] = set()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.data_ptr() in drawn or key == "spectrogram.stft.window":
                continue
            drawn.add(value.data_ptr())
            name = key.rsplit(".", 1)[-1]
            if name == "num_batches_tracked":
                value.fill_(int(torch.randint(1, 100_000, (), generator=generator)))
            elif name == "running_var":
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif name in ("bias", "running_mean"):
                value.copy_(normal(value, 0.2))
            elif name == "freqs":
                value.mul_(normal(value, 0.05, mean=1.0))
            elif "additive_pe" in key:
                value.add_(normal(value, 0.05))
            elif name == "latents":
                value.copy_(normal(value, 0.5))
            elif value.ndim == 1:  # the weight of a norm
                value.copy_(normal(value, 0.2, mean=1.0))
            elif key.startswith(("embed_tokens", "lm_head")):
                value.copy_(normal(value, EMBEDDING if key.startswith("embed_tokens") else 1.0))
            else:
                value.copy_(normal(value, _gain(key, heads, len(value)) * value[0].numel() ** -0.5))
        head = model.get_parameter("lm_head.lm_head.weight")
        head[EOS] *= EOS_BOOST
    for key, value in model.state_dict().items():
        if value.numel() > 1 and bool((value == value.flatten()[0]).all()):
            raise ValueError(f"{key} is constant")


def _gain(key: str, heads: int, outputs: int) -> float:
    """By how much the weights of a linear layer or convolution exceed 1 / sqrt(inputs)."""
    if key.endswith("Attention.q.weight"):  # the decoder does not divide scores by sqrt(d_kv): its weights do
        return SHARPNESS * float((outputs / heads) ** -0.5)
    if key.startswith("pre_decoder"):  # the encoder's residual stream has grown; the decoder's starts small
        return 0.3
    return 2.0 if key.endswith("mlp.gate.weight") else 1.0
