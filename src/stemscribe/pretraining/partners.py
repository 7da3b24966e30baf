"""Further processes that each work out the gradients of a share of every batch.

On a CPU a second thread brings a training step of the small model next to nothing, a second process nearly doubles what is
learned in a time (docs/log.md). The promise: which crops a step sees does not depend on the number of processes; the gradient
is the mean over the shares; the same parameters, data and number of processes give the same weights. Batch norm sees a share at
a time, and its running statistics are those of the first share. A partner ends with the process that started it, whatever ends
that one, and keeps quiet about Ctrl-C.
"""

import copy
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

from stemscribe import runtime
from stemscribe.data.crops import Batch, collate
from stemscribe.data.shards import ShardReader
from stemscribe.errors import StemscribeError
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.pretraining.crops import GeneralistCrops
from stemscribe.pretraining.params import TrainParams
from stemscribe.training.losses import LossWeights, batch_losses

SEEDS_APART = 2**32  # between the seeds of two shares of one step


@dataclass(frozen=True)
class Share:
    """Which part of each batch a process works on; the number 0 is the share of the process that trains."""

    number: int
    of: int

    def crops(self, step: int, batch_size: int) -> range:
        """The numbers of its crops in a step."""
        size = batch_size // self.of
        first = step * batch_size + self.number * size
        return range(first, first + size)

    def seed(self, seed: int, step: int) -> int:
        """Of the dropout."""
        return seed * 1_000_003 + step + self.number * SEEDS_APART


@dataclass(frozen=True)
class _Task:
    shards: Path
    train: TrainParams
    seed: int
    share: Share


class Partners:
    """Those who work on the other shares; start a step, work on the own share, then `add_gradients`."""

    def __init__(self, connections: Sequence[Connection], gradients: Sequence[Tensor]) -> None:
        self._connections, self._gradients = connections, gradients

    def __len__(self) -> int:
        return len(self._connections)

    def start(self, step: int, with_tokens: bool) -> None:
        """Have the gradients of a step worked out with the weights as they are now.

        Raises:
            StemscribeError: if a partner has been killed; what else went wrong there comes through as it is.
        """
        for connection in self._connections:
            try:
                connection.send((step, with_tokens))
            except OSError:  # it has ended, and perhaps said why
                raise _last_words(connection) or StemscribeError(
                    "a process of the training ended; run again to go on"
                ) from None

    def add_gradients(self, model: YourMT3) -> None:
        """Wait for the partners, and make the model's gradients the mean over all shares.

        Raises:
            StemscribeError: if a partner has been killed; what else went wrong there comes through as it is.
        """
        for connection in self._connections:
            if (error := _last_words(connection)) is not None:
                raise error
        for weight, *others in zip(model.parameters(), *(_apart(each, model) for each in self._gradients), strict=True):
            if weight.grad is not None:
                for other in others:
                    weight.grad += other
                weight.grad /= 1 + len(others)


@contextmanager
def partners(model: YourMT3, shards: Path, train: TrainParams, seed: int, processes: int) -> Iterator[Partners]:
    """Start `processes - 1` of them; the model's weights are moved to memory that all can see.

    Args:
        model: on the CPU; it must keep its parameters, whose values may change.
        shards: folder of the sources.
        train: the recipe.
        seed: decides crops and dropout.
        processes: in all.
    """
    model.share_memory()
    context = multiprocessing.get_context("spawn")
    size = sum(weight.numel() for weight in model.parameters())
    connections, gradients, started = [], [], []
    try:
        for number in range(1, processes):
            here, there = context.Pipe()
            gradient = torch.zeros(size).share_memory_()  # type: ignore[no-untyped-call]
            task = _Task(shards, train, seed, Share(number, processes))
            process = context.Process(target=_work, args=(there, task, model, gradient), daemon=True)
            # A terminal sends Ctrl-C to the partner as well, which may be loading its libraries just then. Starting the tracker
            # unblocks it, so that comes first.
            resource_tracker.ensure_running()
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            there.close()
            connections.append(here)
            gradients.append(gradient)
            started.append(process)
        yield Partners(connections, gradients)
    finally:
        for connection in connections:
            connection.close()
        for process in started:
            process.kill()  # it holds nothing that could be lost
            process.join()


def _work(connection: Connection, task: _Task, shared: YourMT3, gradient: Tensor) -> None:
    trainer = multiprocessing.parent_process()
    runtime.end_with_parent(signal.SIGKILL, trainer.pid if trainer else None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    runtime.settle_torch(task.share.of)
    torch.set_flush_denormal(True)  # as something that Lightning loads does for the process that trains
    try:
        worker = _Worker(task, shared, gradient)
        while True:
            worker.work(*connection.recv())
            connection.send(None)
            worker.prepare_next()
    except EOFError:
        return
    except Exception as error:  # whatever it is, it is for the process that trains to report
        connection.send(error)


class _Worker:
    """A partner's own model, which takes over the weights at each step and has batch statistics of its own."""

    def __init__(self, task: _Task, shared: YourMT3, gradient: Tensor) -> None:
        train = task.train
        self._task, self._shared = task, shared
        self._own = copy.deepcopy(shared)
        self._own.train()
        self._own.prune = True
        self._gradients = _apart(gradient, shared)
        self._weights = LossWeights.of(train)
        total = train.steps * train.batch_size
        self._crops = GeneralistCrops(
            ShardReader(task.shards), shared.config, train, task.seed, first=0, count=total, total=total
        )
        self._ready: tuple[int, Batch | None] = (-1, None)

    def work(self, step: int, with_tokens: bool) -> None:
        """Leave the gradients of a step where the other process finds them."""
        batch = self._batch(step)
        with torch.no_grad():
            for own, weight in zip(self._own.parameters(), self._shared.parameters(), strict=True):
                own.copy_(weight)
        self._own.zero_grad()
        torch.manual_seed(self._task.share.seed(self._task.seed, step))
        batch_losses(self._own, batch, self._weights, with_tokens).total.backward()  # type: ignore[no-untyped-call]
        for gradient, own in zip(self._gradients, self._own.parameters(), strict=True):
            gradient.zero_() if own.grad is None else gradient.copy_(own.grad)
        self._ready = (step, None)

    def prepare_next(self) -> None:
        """Draw the next step's crops while the other process moves the weights."""
        step = self._ready[0] + 1
        if step < self._task.train.steps:
            self._ready = (step, self._batch(step))

    def _batch(self, step: int) -> Batch:
        ready, batch = self._ready
        if batch is not None and ready == step:
            return batch
        return collate([self._crops[number] for number in self._task.share.crops(step, self._task.train.batch_size)])


def _apart(vector: Tensor, model: YourMT3) -> list[Tensor]:
    """Views of one vector in the shapes of a model's parameters."""
    weights = list(model.parameters())
    parts = torch.split(vector, [weight.numel() for weight in weights])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


def _last_words(connection: Connection) -> Exception | None:
    """What a partner answers: an error, None if all is well; if it cannot answer any more, that it was killed."""
    try:
        error: Exception | None = connection.recv()
    except (EOFError, OSError):
        return StemscribeError(
            "a process of the training was killed, perhaps for want of memory; run again to go on, or set train.processes to 1"
        )
    return error
