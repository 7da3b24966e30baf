"""From scratch, the small model already knows what time a shift token means, and a few steps teach it something."""

import torch
import torch.nn.functional as F

from stemscribe.model import SMALL, YourMT3
from stemscribe.model.initialisation import initialise, initialise_decoder, rescale_memory
from tiny_model import TIME, noise, small_model, tiny_config

TICKS = torch.arange(1, 200)
SHIFTS = (TIME.first + TICKS)[None, None]  # tokens for 10 ms, 20 ms, ...
FRAME_OF_TICK = TICKS * 0.01 * SMALL.sample_rate / SMALL.hop


def test_the_same_generator_gives_the_same_weights():
    first, second = small_model().state_dict(), small_model().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_nothing_is_left_to_the_global_generator():
    torch.manual_seed(1)
    first = small_model().state_dict()
    torch.manual_seed(2)
    second = small_model().state_dict()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_a_shift_token_looks_at_the_frame_of_its_own_time():
    model = small_model([4])
    with torch.no_grad():
        memory = model.encode(noise(SMALL, 1))
        _, alignments = model.decode(memory, SHIFTS, alignment=True)
    for layer in alignments:
        looked_at = layer.argmax(dim=-1).flatten()
        assert float((looked_at - FRAME_OF_TICK).abs().mean()) < 1.0  # frames; by chance it would be 27


def test_without_a_geometry_of_time_it_has_to_be_learned():
    model = small_model([4])
    initialise_decoder(model, None, torch.Generator().manual_seed(1))
    with torch.no_grad():
        _, alignments = model.decode(model.encode(noise(SMALL, 1)), SHIFTS, alignment=True)
    for layer in alignments:
        assert float((layer.argmax(dim=-1).flatten() - FRAME_OF_TICK).abs().mean()) > 10.0


def test_what_is_said_next_is_near_the_time_looked_at():
    model = small_model([4])
    with torch.no_grad():
        said = model.decode(model.encode(noise(SMALL, 1)), SHIFTS).argmax(dim=-1)
    assert float((said - SHIFTS).abs().float().median()) <= 3  # ticks of 10 ms


def test_a_restarted_decoder_leaves_the_encoder_alone():
    model = small_model([4])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    initialise_decoder(model, TIME, torch.Generator().manual_seed(9))
    changed = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"embed_tokens", "lm_head", "decoder", "memory_positions", "frame_memory"}


def test_rescaled_memory_is_louder_and_the_frame_head_does_not_mind():
    model = small_model([4])
    with torch.no_grad():
        waveform = noise(SMALL)
        memory = model.encode(waveform)
        onset = model.frames(memory, waveform).onset
        rescale_memory(model, 0.5)
        assert torch.allclose(model.encode(noise(SMALL)), 0.5 * memory, atol=1e-6)
        assert torch.allclose(model.frames(0.5 * memory, waveform).onset, onset, atol=1e-5)


def test_models_without_the_options_start_too():
    model = YourMT3(tiny_config())
    initialise(model, TIME, torch.Generator().manual_seed(0))
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def test_every_weight_gets_a_gradient_and_a_few_steps_lower_every_loss():
    model = small_model([4]).train()
    model.prune = True
    waveform = noise(SMALL, 2)
    labels = torch.tensor([[[339, 3 + 50, 338, 249, 1]], [[339, 3 + 150, 338, 252, 1]]])
    onsets = torch.zeros(2, 1, SMALL.frames, 128)
    onsets[0, 0, 20, 40] = onsets[1, 0, 60, 43] = 1.0
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        memory = model.encode(waveform)
        frames = model.frames(memory, waveform)
        logits, alignments = model.decode(model.informed(memory, frames), model.shift_right(labels), alignment=True)
        tokens = F.cross_entropy(model.training_logits(logits).flatten(0, 2), labels.flatten())
        heard = F.binary_cross_entropy_with_logits(frames.onset, onsets, pos_weight=torch.tensor(50.0))
        heard = heard + F.binary_cross_entropy_with_logits(frames.active, onsets)
        heard = heard + F.binary_cross_entropy_with_logits(frames.voice, onsets)
        guide = -torch.stack([layer[..., 2, 20].mean() for layer in alignments]).mean()
        optimiser.zero_grad()
        (tokens + heard + 0.01 * guide).backward()
        assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
        optimiser.step()
        losses.append((float(tokens.detach()), float(heard.detach())))
    assert losses[-1][0] < 0.6 * losses[0][0]
    assert losses[-1][1] < losses[0][1]
