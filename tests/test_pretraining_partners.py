"""Processes that share a batch work out the gradients that one process would, and a lost one is reported."""

import multiprocessing
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shard_band import write_band
from stemscribe.data.crops import collate
from stemscribe.data.shards import ShardReader
from stemscribe.errors import StemscribeError
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.pretraining.crops import GeneralistCrops
from stemscribe.pretraining.params import load_pretrain_params
from stemscribe.pretraining.partners import Share, partners
from stemscribe.training.losses import LossWeights, batch_losses
from tiny_model import small_model

SEED = 3
SHIPPED = load_pretrain_params(Path(__file__).parents[1] / "pretrain/params.yaml").train
MIXTURE = replace(SHIPPED.mixture, channels=2)
TRAIN = replace(SHIPPED, steps=10, batch_size=4, mixture=MIXTURE)
WEIGHTS = LossWeights.of(TRAIN)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_band(tmp_path_factory.mktemp("shards") / "bass").folder


def learner() -> YourMT3:
    model = small_model().train()
    model.prune = True
    return model


def gradients(model: YourMT3, shards: Path, share: Share, step: int, with_tokens: bool) -> list[Tensor | None]:
    """What a share of a step gives, worked out here."""
    total = TRAIN.steps * TRAIN.batch_size
    crops = GeneralistCrops(ShardReader(shards), model.config, TRAIN, SEED, first=0, count=total, total=total)
    batch = collate([crops[number] for number in share.crops(step, TRAIN.batch_size)])
    torch.manual_seed(share.seed(SEED, step))
    batch_losses(model, batch, WEIGHTS, with_tokens).total.backward()  # type: ignore[no-untyped-call]
    return [weight.grad for weight in model.parameters()]


def test_shares_are_the_whole_batch_with_seeds_of_their_own() -> None:
    shares = [Share(number, 3) for number in range(3)]
    assert [crop for share in shares for crop in share.crops(step=5, batch_size=12)] == list(range(60, 72))
    assert len({share.seed(SEED, step) for share in shares for step in range(1000)}) == 3000


def test_partners_add_the_gradients_of_their_shares(shards: Path) -> None:
    """Twice with other weights in between, with and without the decoder, whose weights have no gradient at first."""
    model, here, there = learner(), learner(), learner()
    with partners(model, shards, TRAIN, SEED, processes=2) as others:
        for step, with_tokens in ((0, False), (1, True)):
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(1.01)
            for each in (here, there):
                each.load_state_dict({**each.state_dict(), **dict(model.named_parameters())})
            for each in (model, here, there):
                each.zero_grad()
            others.start(step, with_tokens)
            gradients(model, shards, Share(0, 2), step, with_tokens)
            others.add_gradients(model)
            own = gradients(here, shards, Share(0, 2), step, with_tokens)
            other = gradients(there, shards, Share(1, 2), step, with_tokens)
            for weight, mine, theirs in zip(model.parameters(), own, other, strict=True):
                if weight.grad is None:
                    assert not with_tokens
                    assert (mine, theirs) == (None, None)
                else:
                    assert mine is not None
                    assert theirs is not None
                    torch.testing.assert_close(weight.grad, (mine + theirs) / 2, rtol=1e-3, atol=1e-5)
    assert multiprocessing.active_children() == []


def test_one_process_needs_no_partner(shards: Path) -> None:
    with partners(learner(), shards, TRAIN, SEED, processes=1) as others:
        assert len(others) == 0


def test_a_killed_partner_is_one_line(shards: Path) -> None:
    model = learner()
    with partners(model, shards, TRAIN, SEED, processes=2) as others:
        (process,) = multiprocessing.active_children()
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        with pytest.raises(StemscribeError, match=r"a process of the training was killed.* train\.processes") as caught:
            others.start(0, with_tokens=False)
            others.add_gradients(model)
    assert "\n" not in str(caught.value)


def test_what_goes_wrong_at_a_partner_goes_wrong_here(shards: Path, tmp_path: Path) -> None:
    model = learner()
    with partners(model, tmp_path / "nowhere", TRAIN, SEED, processes=2) as others:
        others.start(0, with_tokens=False)
        with pytest.raises(StemscribeError, match="nowhere"):
            others.add_gradients(model)
