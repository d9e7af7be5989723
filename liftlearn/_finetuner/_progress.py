"""How far training is: batches, the clock, the epoch, the best weights so far."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import parent_process
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from liftlearn._language_model import LanguageModel

# Tokens that one forward and backward pass holds at the most, unless one row alone is
# longer. Processors are at full speed with fewer, and memory grows with every token,
# so more would serve nobody; fewer are had by a smaller batch_size.
_PASS_TOKENS = 4096
# So many steps of a rehearsal are timed at least.
_FEWEST = 3


@dataclass(frozen=True)
class Batch:
    """Rows of like length: their tokens, and the steps that are asked of each."""

    tokens: list[list[int]]
    steps: NDArray[np.intp]  # (n_rows, n_steps, 3), as `SentenceScorer.forward` takes


def grouped(batches: Iterator[Batch], n: int) -> Iterator[list[Batch]]:
    """Yield lists of ``n`` batches, and of what is left at the end."""
    while group := list(islice(batches, n)):
        yield group


def passes_of(batch: Batch, process: int, n_processes: int) -> list[tuple[Batch, int]]:
    """Return one process's rows in parts of bounded size, with how many count of each.

    Every process gets as many parts of as many rows: where rows are short, the last
    one is repeated behind those that count.

    >>> batch = Batch([[1], [2], [3]], np.array([0, 1, 0]))
    >>> passes_of(batch, 1, 2)
    [(Batch(tokens=[[2], [3]], steps=array([1, 0])), 1)]
    """
    n_rows = len(batch.tokens)
    own = np.arange(process, math.ceil(n_rows / n_processes) * n_processes, n_processes)
    most = max(1, _PASS_TOKENS // max(map(len, batch.tokens)))
    parts = []
    for some in np.array_split(own, math.ceil(len(own) / most)):
        rows = some.clip(max=n_rows - 1)
        part = Batch([batch.tokens[row] for row in rows], batch.steps[rows])
        parts.append((part, int((some < n_rows).sum())))
    return parts


@dataclass
class Clock:
    """How far training is, by steps or by time, whichever is further."""

    n_steps: int
    max_time: float | None

    def __post_init__(self) -> None:
        self.n_taken = 0
        self.seconds = 0.0
        self._start = time.monotonic()

    def read(self) -> float:
        return time.monotonic() - self._start

    def resume(self, n_taken: int, seconds: float) -> None:
        self.n_taken, self.seconds = n_taken, seconds
        self._start = time.monotonic() - seconds

    @property
    def progress(self) -> float:
        """The middle of the next step's share of training."""
        by_steps = (self.n_taken + 0.5) / self.n_steps
        by_time = self.seconds / self.max_time if self.max_time else 0.0
        return min(1.0, max(by_steps, by_time))

    @property
    def is_over(self) -> bool:
        out_of_time = self.max_time is not None and self.seconds >= self.max_time
        return self.n_taken >= self.n_steps or out_of_time


class Rehearsal(Clock):
    """Stops after a few steps, and tells how long one took."""

    def __init__(self, n_steps: int, seconds: float) -> None:
        super().__init__(n_steps, None)
        self._most = seconds
        self._read: list[float] = []

    @property
    def progress(self) -> float:
        # The loop asks once a step, when it has read the clock.
        self._read.append(self.seconds)
        return super().progress

    @property
    def is_over(self) -> bool:
        has_enough = len(self._read) > _FEWEST and self._measured >= self._most
        return super().is_over or has_enough

    @property
    def seconds_a_step(self) -> float:
        """The mean without the first step, which is often slower."""
        if len(self._read) < 2:
            return self.seconds
        return self._measured / (len(self._read) - 1)

    @property
    def _measured(self) -> float:
        return self._read[-1] - self._read[0]


class Bar:
    """One progress bar for all trainings of a fit; none without a total."""

    def __init__(self, n_steps: int | None) -> None:
        self._bar = tqdm(
            total=n_steps, desc="fine-tuning", disable=n_steps is None or is_worker()
        )

    def name(self, training: str) -> None:
        """Tell which training the next steps are of."""
        self._bar.set_description(f"fine-tuning{training}")

    def advance(self, n_steps: int = 1) -> None:
        self._bar.update(n_steps)

    def tell_loss(self, loss: float) -> None:
        self._bar.set_postfix(loss=loss)

    def skip(self, n_steps: int) -> None:
        """Expect fewer steps than before."""
        if self._bar.total is not None:
            self._bar.total = max(self._bar.total - n_steps, self._bar.n)
            self._bar.refresh()

    def close(self) -> None:
        # Members that agree, or a short schedule, leave steps out.
        self.skip((self._bar.total or 0) - self._bar.n)
        self._bar.close()


def is_worker() -> bool:
    """Return whether others do the same beside it, so that none is to write.

    Bars of joblib's workers, processes or threads, would run into each other. Of
    processes that were launched together the first one writes.
    """
    is_main_thread = threading.current_thread() is threading.main_thread()
    is_launched = os.environ.get("RANK", "0") != "0"
    return not is_main_thread or is_launched or parent_process() is not None


def tell(message: str) -> None:
    """Write a message above the bar, if there is to be one."""
    if not is_worker():
        tqdm.write(message)


class Best:
    """The best weights so far by a monitored metric; nothing without one."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self.metric = -math.inf
        self.n_worse = 0
        self.weights: dict[str, Tensor] = {}

    @property
    def is_settled(self) -> bool:
        return self.n_worse >= self._patience

    def update(self, lm: LanguageModel, metric: float | None) -> None:
        if metric is None:
            return
        self.n_worse += 1
        if metric > self.metric:
            self.metric, self.n_worse = metric, 0
            weights = trainable_weights(lm.model)
            self.weights = {name: weight.clone() for name, weight in weights.items()}

    def restore(self, lm: LanguageModel) -> None:
        if self.weights:
            put_weights(self.weights, lm.model)


@dataclass
class Epoch:
    """One pass over the rows, as far as it is done."""

    start: int  # the steps taken before it
    stream: dict[str, Any]  # the stream's state before it
    loss: float = 0.0
    n_rows: int = 0
    n_tokens: int = 0
    learning_rate: float = 0.0

    def add(self, batches: list[Batch], loss: float, learning_rate: float) -> None:
        self.loss += loss
        self.n_rows += sum(len(batch.tokens) for batch in batches)
        self.n_tokens += sum(len(ids) for batch in batches for ids in batch.tokens)
        self.learning_rate = learning_rate


@dataclass
class Run:
    """All that changes in training, to be kept in a checkpoint."""

    model: Any
    optimizer: Any
    scaler: Any
    clock: Clock
    best: Best
    rng: RandomState
    history: list[dict[str, Any]]
    epoch: Epoch | None = None

    def current_epoch(self) -> Epoch:
        """Return the epoch that was resumed, or a new one."""
        if self.epoch is None:
            self.epoch = Epoch(self.clock.n_taken, self.rng.get_state(legacy=False))
        return self.epoch

    def end_epoch(self, measured: Mapping[str, float | None]) -> None:
        """Write the current epoch into the history, with what its end measured."""
        epoch = self.current_epoch()
        self.history.append(
            {
                "loss": epoch.loss / epoch.n_rows,
                "learning_rate": epoch.learning_rate,
                "tokens": epoch.n_tokens,
                **measured,
                "seconds": self.clock.seconds,
            }
        )
        self.epoch = None

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the values and tensors that `resume` takes, amid an epoch."""
        values = {
            "epoch": asdict(self.current_epoch()),
            "clock": {"n_taken": self.clock.n_taken, "seconds": self.clock.seconds},
            "best": {"metric": self.best.metric, "n_worse": self.best.n_worse},
            "history": self.history,
            "scaler": self.scaler.state_dict(),
        }
        moments = {
            f"{index}.{name}": tensor
            for index, state in self.optimizer.state_dict()["state"].items()
            for name, tensor in state.items()
        }
        groups = {
            "weights": trainable_weights(self.model),
            "best": self.best.weights,
            "optimizer": moments,
        }
        return values, {
            f"{group}.{name}": tensor
            for group, tensors in groups.items()
            for name, tensor in tensors.items()
        }

    def resume(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Become what `state` told; raise where it is no state of this training."""
        self._check_values(values)
        self.epoch = Epoch(**values["epoch"])
        self.rng.set_state(self.epoch.stream)
        self.clock.resume(**values["clock"])
        self.best.metric = values["best"]["metric"]
        self.best.n_worse = values["best"]["n_worse"]
        self.history.extend(values["history"])
        self.scaler.load_state_dict(values["scaler"])
        groups: dict[str, dict[str, Tensor]] = {}
        for whole, tensor in tensors.items():
            group, _, name = whole.partition(".")
            groups.setdefault(group, {})[name] = tensor
        own = trainable_weights(self.model)
        for name in ("weights", "best"):
            if groups.get(name) and _shapes(groups[name]) != _shapes(own):
                raise ValueError("weights of another model")
        put_weights(groups["weights"], self.model)
        device = self.model.device
        self.best.weights = {
            name: weight.to(device) for name, weight in groups.get("best", {}).items()
        }
        moments: dict[int, dict[str, Tensor]] = {}
        for whole, tensor in groups.get("optimizer", {}).items():
            index, _, name = whole.partition(".")
            moments.setdefault(int(index), {})[name] = tensor
        trained = [w for alike in self.optimizer.param_groups for w in alike["params"]]
        for number, state in moments.items():
            if any(m.shape not in ((), trained[number].shape) for m in state.values()):
                raise ValueError("moments of another model")
        param_groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": param_groups})

    def _check_values(self, values: Mapping[str, Any]) -> None:
        """Raise ValueError unless a state's values have the form of the present one."""
        own_values, _ = self.state()
        if not _is_like({**values, "history": []}, {**own_values, "history": []}):
            raise ValueError("values of other types")
        for ended in values["history"]:
            if not all(isinstance(v, int | float | None) for v in ended.values()):
                raise ValueError("a history of other types")
        start, n_taken = values["epoch"]["start"], values["clock"]["n_taken"]
        if not 0 <= start <= n_taken <= self.clock.n_steps:
            raise ValueError("a step that this training does not have")


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _is_like(found: Any, own: Any) -> bool:
    """Return whether a value that was read has the form of one's own.

    >>> _is_like({"a": 1}, {"a": 0.5}), _is_like({"a": "1"}, {"a": 0.5})
    (True, False)
    """
    if isinstance(own, dict):
        return (
            isinstance(found, dict)
            and found.keys() == own.keys()
            and all(_is_like(found[key], own[key]) for key in own)
        )
    if isinstance(own, np.ndarray | list):
        return isinstance(found, list)
    if isinstance(own, float) and not isinstance(found, bool):
        return isinstance(found, int | float)
    return type(found) is type(own)


def trainable_weights(model: Any) -> dict[str, Tensor]:
    """Return the weights that training changes, by their names."""
    return {
        name: weight.detach()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def put_weights(weights: dict[str, Tensor], model: Any) -> None:
    """Give a model's weights the values of others of the same names."""
    own = trainable_weights(model)
    for name, weight in weights.items():
        own[name].copy_(weight)
