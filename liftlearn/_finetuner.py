"""Fine-tuning: a language model and a corpus go in, a tuned language model comes out.

The only module that imports accelerate.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast_object_list
from accelerate.utils.memory import should_reduce_batch_size
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from tqdm.auto import tqdm

from liftlearn._checkpoint import Checkpoint, describe_fit
from liftlearn._encoder import Corpus
from liftlearn._language_model import AnswerScorer, LanguageModel
from liftlearn._validation import Interval, StrOptions

# Accelerate's state belongs to the process, so fits take turns.
_FITS = threading.RLock()
# Prompts of like length are put together within so many batches at a time.
_BUCKET = 16
# Tokens that one forward and backward pass holds at the most, unless one row alone is
# longer. Processors are at full speed with fewer, and memory grows with every token,
# so more would serve nobody; fewer are had by a smaller batch_size.
_PASS_TOKENS = 4096

_AUTO = StrOptions({"auto"})
_COUNT = Interval(Integral, 1, None, closed="left")


class FineTuner(BaseEstimator):
    """Teach a causal language model to answer prompts, with its own next-token loss.

    Only the answer is learnt, not the prompt. Each epoch reads prompts written afresh.
    The optimizer is AdamW with linear warm-up and linear decay, and clipped gradients.

    A parameter left at ``"auto"`` takes the model's preference, and the value after
    "else" for a model without one. The values in use are stored in attributes of the
    same names with a trailing underscore.

    Parameters
    ----------
    n_epochs : int or "auto", default="auto"
        Most passes over the rows. Else: 10.
    max_steps : int, None or "auto", default="auto"
        Most optimizer steps. None sets no bound. Else: None.
    learning_rate : float or "auto", default="auto"
        Peak learning rate. Else: 1e-3 for models of up to ten million weights, 1e-4
        for larger ones.
    batch_size : int or "auto", default="auto"
        Rows in one batch. Long rows are read in several passes of at most 4096
        tokens, which changes nothing but the rounding. Else: 16.
    weight_decay : float or "auto", default="auto"
        Decoupled weight decay. Else: 0.01.
    warmup_ratio : float or "auto", default="auto"
        Share of the steps in which the learning rate rises. Else: 0.1.
    max_grad_norm : float or "auto", default="auto"
        Norm to which gradients are clipped. Else: 1.
    gradient_accumulation_steps : int, default=1
        Batches that make one optimizer step.
    mixed_precision : {"auto", "no", "bf16", "fp16"}, default="auto"
        Precision of the matrix products. ``"auto"`` is ``"no"``: float32.
    early_stopping : bool or "auto", default="auto"
        Whether to set rows aside, to stop when the metric on them no longer rises,
        and to keep the weights that did best: accuracy for classes, the mean absolute
        error for numbers. Else: False.
    validation_fraction : float, default=0.1
        Share of the rows set aside for early stopping.
    n_iter_no_change : int, default=5
        Epochs without a better metric after which training stops early.
    constrained : bool, default=True
        Whether only tokens that an answer can have compete in the loss, as they do
        when the model is used. False is the loss of the paper: all tokens compete.
    max_time : float, default=None
        Seconds that training may take; the learning rate reaches its end by then.
    checkpoint_dir : str or PathLike, default=None
        A folder for the state of training. The same `fit`, called again after it was
        interrupted or killed, goes on from there and ends with the same weights. It
        is refused if anything differs: the data, a parameter, the model or the
        ``random_state``, which must be an int. When training ends, its checkpoint is
        removed, so that the folder is free for another fit. Fits that run side by
        side need a folder each. None writes nothing.
    checkpoint_every : int, default=100
        Optimizer steps from one checkpoint to the next.

    Attributes
    ----------
    history_ : list of dict
        For each epoch the mean ``loss`` in nats, the last ``learning_rate``, the count
        of ``tokens`` read (padding left out), the ``monitored`` metric (None without
        early stopping), and the ``seconds`` since training began.
    n_steps_ : int
        Optimizer steps taken.
    n_epochs_, max_steps_, learning_rate_, batch_size_, weight_decay_, warmup_ratio_, \
max_grad_norm_, early_stopping_
        The values in use.

    References
    ----------
    .. [1] T. Dinh et al., "LIFT: Language-Interfaced Fine-Tuning for Non-Language
       Machine Learning Tasks", NeurIPS 2022, section 2.
    .. [2] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR
       2019.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from liftlearn import FineTuner, LIFTClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LIFTClassifier(finetuner=FineTuner(max_steps=10), random_state=0)
    >>> model.fit(X, y).finetuner_.n_steps_
    10
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_epochs": [_AUTO, Interval(Integral, 0, None, closed="left")],
        "max_steps": [_AUTO, Interval(Integral, 0, None, closed="left"), None],
        "learning_rate": [_AUTO, Interval(Real, 0, None, closed="neither")],
        "batch_size": [_AUTO, _COUNT],
        "weight_decay": [_AUTO, Interval(Real, 0, None, closed="left")],
        "warmup_ratio": [_AUTO, Interval(Real, 0, 1, closed="both")],
        "max_grad_norm": [_AUTO, Interval(Real, 0, None, closed="neither")],
        "gradient_accumulation_steps": [_COUNT],
        "mixed_precision": [StrOptions({"auto", "no", "bf16", "fp16"})],
        "early_stopping": [_AUTO, "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [_COUNT],
        "constrained": ["boolean"],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "checkpoint_dir": [str, PathLike, None],
        "checkpoint_every": [_COUNT],
    }

    def __init__(
        self,
        *,
        n_epochs: int | str = "auto",
        max_steps: int | str | None = "auto",
        learning_rate: float | str = "auto",
        batch_size: int | str = "auto",
        weight_decay: float | str = "auto",
        warmup_ratio: float | str = "auto",
        max_grad_norm: float | str = "auto",
        gradient_accumulation_steps: int = 1,
        mixed_precision: str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        constrained: bool = True,
        max_time: float | None = None,
        checkpoint_dir: str | PathLike[str] | None = None,
        checkpoint_every: int = 100,
    ) -> None:
        self.n_epochs = n_epochs
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.max_grad_norm = max_grad_norm
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.mixed_precision = mixed_precision
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.constrained = constrained
        self.max_time = max_time
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every

    def finetune(
        self,
        lm: LanguageModel,
        corpus: Corpus,
        rng: RandomState,
        *,
        monitor: Callable[[LanguageModel], float] | None = None,
        verbose: int = 0,
    ) -> LanguageModel:
        """Return a copy of the language model, tuned on the corpus.

        Parameters
        ----------
        lm : LanguageModel
            The model to start from; it is not changed.
        corpus : Corpus
            What to learn.
        rng : numpy.random.RandomState
            The stream for the rows' order and wording, and for dropout.
        monitor : callable, default=None
            Returns a metric of a language model, higher is better. Where it is given,
            training stops early and the best weights are kept.
        verbose : int, default=0
            Above 0 a progress bar is shown.

        Returns
        -------
        tuned : LanguageModel
            The tuned model.

        Raises
        ------
        ValueError
            If a prompt is longer than the model can read, or the checkpoint in
            ``checkpoint_dir`` is of another fit.
        MemoryError
            If training takes more memory than there is.

        Warns
        -----
        ConvergenceWarning
            If ``max_time`` ended training before its steps were done.
        """
        self._validate_params()
        self._settle(lm)
        self.history_: list[dict[str, Any]] = []
        self.n_steps_ = 0
        trie = lm.trie(corpus.answers.texts)
        checkpoint = self._checkpoint(lm, corpus, rng)
        tuned = lm.trainable_copy()
        devices = [] if tuned.model.device.type == "cpu" else [tuned.model.device]
        with _FITS, _own_state(), torch.random.fork_rng(devices):
            seed = rng.randint(2**31)
            # With a single answer there is nothing to learn.
            if trie.nodes:
                scorer = AnswerScorer(tuned.model, trie, constrained=self.constrained)
                try:
                    self._train(
                        tuned, scorer, corpus, rng, seed, monitor, checkpoint, verbose
                    )
                except RuntimeError as error:
                    if not should_reduce_batch_size(error):
                        raise
                    raise MemoryError(
                        f"Training ran out of memory with batch_size="
                        f"{self.batch_size_!r}. Lower batch_size and raise "
                        "gradient_accumulation_steps by the same factor, which changes "
                        "nothing but the rounding. If one row is too much, set "
                        'gradient_checkpointing=True or adapter="auto", or write '
                        "shorter rows with RowEncoder(text_length=..., digits=...) or "
                        "fewer columns."
                    ) from error
        return tuned.scoring_copy()

    def _settle(self, lm: LanguageModel) -> None:
        """Store the values in use of all parameters that may be ``"auto"``."""
        n_weights = sum(weight.numel() for weight in lm.model.parameters())
        default = {
            "n_epochs": 10,
            "max_steps": None,
            "learning_rate": 1e-3 if n_weights <= 10_000_000 else 1e-4,
            "batch_size": 16,
            "weight_decay": 0.01,
            "warmup_ratio": 0.1,
            "max_grad_norm": 1.0,
            "mixed_precision": "no",
            "early_stopping": False,
        }
        for name, value in default.items():
            given = getattr(self, name)
            setattr(self, f"{name}_", value if given == "auto" else given)

    def _checkpoint(
        self, lm: LanguageModel, corpus: Corpus, rng: RandomState
    ) -> Checkpoint | None:
        """Return where this fit's state is kept, if it is."""
        if self.checkpoint_dir is None:
            return None
        names = set(self.get_params(deep=False)) - {
            "checkpoint_dir",
            "checkpoint_every",
        }
        in_use = {
            name: getattr(self, f"{name}_", getattr(self, name)) for name in names
        }
        return Checkpoint(self.checkpoint_dir, describe_fit(lm, corpus, rng, in_use))

    def _train(
        self,
        lm: LanguageModel,
        scorer: AnswerScorer,
        corpus: Corpus,
        rng: RandomState,
        seed: int,
        monitor: Callable[[LanguageModel], float] | None,
        checkpoint: Checkpoint | None,
        verbose: int,
    ) -> None:
        """Change the model's weights; write `history_` and `n_steps_`."""
        accelerator = Accelerator(
            cpu=lm.model.device.type == "cpu", mixed_precision="no"
        )
        optimizer = torch.optim.AdamW(
            lm.model.parameters(),
            lr=self.learning_rate_,
            weight_decay=self.weight_decay_,
            fused=True,
        )
        module, optimizer = accelerator.prepare(scorer, optimizer)
        module.train()
        clock = _Clock(self._n_steps(len(corpus)), self.max_time)
        best = _Best(monitor, self.n_iter_no_change)
        run = _Run(lm.model, optimizer, clock, best, rng, self.history_)
        is_main = accelerator.is_main_process
        saved = checkpoint and checkpoint.read()
        if saved:
            run.resume(*saved)
        else:
            clock.seconds = _of_main(accelerator, clock.read())
        bar = tqdm(
            total=clock.n_steps,
            initial=clock.n_taken,
            desc="fine-tuning",
            disable=not (verbose and is_main),
        )
        with bar:
            while not clock.is_over and not best.is_settled:
                epoch = run.current_epoch()
                groups = _grouped(
                    self._epoch(lm, scorer, corpus, rng, clock.n_steps - epoch.start),
                    self.gradient_accumulation_steps,
                )
                # Batches that were learnt before a resume are only written again, to
                # bring the stream to its place.
                for batches in islice(groups, clock.n_taken - epoch.start, None):
                    # Dropout needs no state of its own then, and differs by process.
                    torch.manual_seed(
                        seed
                        + clock.n_taken * accelerator.num_processes
                        + accelerator.process_index
                    )
                    loss = self._backward(accelerator, module, lm, batches)
                    accelerator.clip_grad_norm_(
                        lm.model.parameters(), self.max_grad_norm_
                    )
                    clock.seconds = _of_main(accelerator, clock.read())
                    rate = self.learning_rate_ * self._schedule(clock.progress)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.step()
                    optimizer.zero_grad()
                    clock.n_taken += 1
                    epoch.add(batches, _total(accelerator, loss), rate)
                    bar.update()
                    if clock.is_over:
                        break
                    is_due = clock.n_taken % self.checkpoint_every == 0
                    if checkpoint and is_due and is_main:
                        checkpoint.write(*run.state())
                metric = best.score(lm)
                if metric is not None:
                    metric = _of_main(accelerator, metric)
                    best.update(lm, metric)
                clock.seconds = _of_main(accelerator, clock.read())
                run.end_epoch(metric)
                bar.set_postfix(loss=self.history_[-1]["loss"])
        self.n_steps_ = clock.n_taken
        best.restore(lm)
        if checkpoint and is_main:
            checkpoint.remove()
        if clock.n_taken < clock.n_steps and not best.is_settled:
            warnings.warn(
                f"max_time={self.max_time!r} seconds ended training after "
                f"{clock.n_taken} of {clock.n_steps} steps. Raise max_time, or lower "
                "n_epochs or max_steps.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _backward(
        self,
        accelerator: Accelerator,
        module: Any,
        lm: LanguageModel,
        batches: list[_Batch],
    ) -> float:
        """Add up the gradients of one step; return this process's sum of losses."""
        n_rows = sum(len(batch.answers) for batch in batches)
        passes = [
            own
            for batch in batches
            for own in _passes(
                batch, accelerator.process_index, accelerator.num_processes
            )
        ]
        total = 0.0
        for i, (part, n_own) in enumerate(passes):
            inputs = lm.padded(part.tokens)
            inputs["answer"] = torch.tensor(part.answers, device=lm.model.device)
            # Processes exchange their gradients once a step.
            is_last = i == len(passes) - 1
            with nullcontext() if is_last else accelerator.no_sync(module):
                with self._autocast(lm):
                    score = module(**inputs)[:n_own]  # (n_own,)
                # The exchange takes the mean over the processes.
                accelerator.backward(
                    -score.sum() * (accelerator.num_processes / n_rows)
                )
            total -= score.detach().double().sum().item()
        return total

    def _n_steps(self, n_rows: int) -> int:
        """Return how many optimizer steps the epochs take, within ``max_steps``."""
        n_batches = math.ceil(n_rows / self.batch_size_)
        n_steps: int = self.n_epochs_ * math.ceil(
            n_batches / self.gradient_accumulation_steps
        )
        return n_steps if self.max_steps_ is None else min(n_steps, self.max_steps_)

    def _epoch(
        self,
        lm: LanguageModel,
        scorer: AnswerScorer,
        corpus: Corpus,
        rng: RandomState,
        n_steps: int,
    ) -> Iterator[_Batch]:
        """Yield the batches of one pass over the rows, of ``n_steps`` at the most."""
        n_batches = n_steps * self.gradient_accumulation_steps
        rows = corpus.draw(rng)[: n_batches * self.batch_size_]
        size = self.batch_size_ * _BUCKET
        longest = max(map(len, scorer.paths))
        for start in range(0, len(rows), size):
            prompts, answers = corpus.write(rows[start : start + size], rng)
            paths = [scorer.paths[answer][:-1] for answer in answers]
            tokens = [
                prompt + path
                for prompt, path in zip(
                    lm.prompt_tokens(prompts, longest), paths, strict=True
                )
            ]
            # A stable sort leaves rows of one length in their random order.
            order = np.argsort([len(ids) for ids in tokens], kind="stable")
            starts = np.arange(0, len(order), self.batch_size_)
            for first in rng.permutation(starts):
                picked = order[first : first + self.batch_size_]
                yield _Batch([tokens[i] for i in picked], answers[picked])

    def _schedule(self, progress: float) -> float:
        """Return the learning rate's share of its peak: a rise, then a fall to zero."""
        warmup = float(self.warmup_ratio_)
        if progress < warmup:
            return progress / warmup
        return (1.0 - progress) / (1.0 - warmup) if progress < 1 else 0.0

    def _autocast(self, lm: LanguageModel) -> Any:
        """Return the forward pass's precision; accelerate's own is process-wide."""
        if self.mixed_precision_ == "no":
            return nullcontext()
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[self.mixed_precision_]
        return torch.autocast(lm.model.device.type, dtype)


def share_stream(rng: RandomState, device: str | None) -> None:
    """Give a stream the main process's state, where several were launched together."""
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    with _FITS, _own_state():
        if PartialState(cpu=on_cpu).num_processes > 1:
            rng.set_state(broadcast_object_list([rng.get_state(legacy=False)])[0])


@contextmanager
def _own_state() -> Iterator[None]:
    """Keep accelerate's process-wide state, and give the caller's back at the end."""
    classes = (PartialState, AcceleratorState, GradientState)
    kept = [dict(each._shared_state) for each in classes]
    for each in classes:
        each._reset_state()
    try:
        yield
    finally:
        for each, state in zip(classes, kept, strict=True):
            each._reset_state()
            each._shared_state.update(state)


def _of_main(accelerator: Accelerator, value: float) -> float:
    """Return the main process's value, so that all decide alike."""
    return _total(accelerator, value if accelerator.is_main_process else 0.0)


def _total(accelerator: Accelerator, value: float) -> float:
    """Return the sum of all processes' values."""
    if accelerator.num_processes == 1:
        return value
    own = torch.tensor(value, dtype=torch.float64, device=accelerator.device)
    total: float = accelerator.reduce(own, "sum").item()
    return total


@dataclass(frozen=True)
class _Batch:
    """Rows of like length: their tokens, and the index of each one's answer."""

    tokens: list[list[int]]
    answers: NDArray[np.intp]


def _grouped(batches: Iterator[_Batch], n: int) -> Iterator[list[_Batch]]:
    """Yield lists of ``n`` batches, and of what is left at the end."""
    while group := list(islice(batches, n)):
        yield group


def _passes(batch: _Batch, process: int, n_processes: int) -> list[tuple[_Batch, int]]:
    """Return one process's rows in parts of bounded size, with how many count of each.

    Every process gets as many parts of as many rows: where rows are short, the last
    one is repeated behind those that count.

    >>> batch = _Batch([[1], [2], [3]], np.array([0, 1, 0]))
    >>> _passes(batch, 1, 2)
    [(_Batch(tokens=[[2], [3]], answers=array([1, 0])), 1)]
    """
    n_rows = len(batch.tokens)
    places = np.arange(
        process, math.ceil(n_rows / n_processes) * n_processes, n_processes
    )
    most = max(1, _PASS_TOKENS // max(map(len, batch.tokens)))
    parts = []
    for some in np.array_split(places, math.ceil(len(places) / most)):
        rows = some.clip(max=n_rows - 1)
        part = _Batch([batch.tokens[row] for row in rows], batch.answers[rows])
        parts.append((part, int((some < n_rows).sum())))
    return parts


@dataclass
class _Clock:
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


class _Best:
    """The best weights so far by a monitored metric; nothing without a monitor."""

    def __init__(
        self, monitor: Callable[[LanguageModel], float] | None, patience: int
    ) -> None:
        self._monitor = monitor
        self._patience = patience
        self.metric = -math.inf
        self.n_worse = 0
        self.weights: dict[str, Tensor] = {}

    @property
    def is_settled(self) -> bool:
        return self.n_worse >= self._patience

    def score(self, lm: LanguageModel) -> float | None:
        return None if self._monitor is None else self._monitor(lm)

    def update(self, lm: LanguageModel, metric: float) -> None:
        self.n_worse += 1
        if metric > self.metric:
            self.metric, self.n_worse = metric, 0
            weights = _trainable(lm.model)
            self.weights = {name: weight.clone() for name, weight in weights.items()}

    def restore(self, lm: LanguageModel) -> None:
        if self.weights:
            _put(self.weights, lm.model)


@dataclass
class _Epoch:
    """One pass over the rows, as far as it is done."""

    start: int  # the steps taken before it
    stream: dict[str, Any]  # the stream's state before it
    loss: float = 0.0
    n_rows: int = 0
    n_tokens: int = 0
    learning_rate: float = 0.0

    def add(self, batches: list[_Batch], loss: float, learning_rate: float) -> None:
        self.loss += loss
        self.n_rows += sum(len(batch.answers) for batch in batches)
        self.n_tokens += sum(len(ids) for batch in batches for ids in batch.tokens)
        self.learning_rate = learning_rate


@dataclass
class _Run:
    """All that changes in training, to be kept in a checkpoint."""

    model: Any
    optimizer: Any
    clock: _Clock
    best: _Best
    rng: RandomState
    history: list[dict[str, Any]]
    epoch: _Epoch | None = None

    def current_epoch(self) -> _Epoch:
        """Return the epoch that was resumed, or a new one."""
        if self.epoch is None:
            self.epoch = _Epoch(self.clock.n_taken, self.rng.get_state(legacy=False))
        return self.epoch

    def end_epoch(self, metric: float | None) -> None:
        """Write the current epoch into the history."""
        epoch = self.current_epoch()
        self.history.append(
            {
                "loss": epoch.loss / epoch.n_rows,
                "learning_rate": epoch.learning_rate,
                "tokens": epoch.n_tokens,
                "monitored": metric,
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
        }
        moments = {
            f"{place}.{name}": tensor
            for place, state in self.optimizer.state_dict()["state"].items()
            for name, tensor in state.items()
        }
        groups = {
            "weights": _trainable(self.model),
            "best": self.best.weights,
            "optimizer": moments,
        }
        return values, {
            f"{group}.{name}": tensor
            for group, tensors in groups.items()
            for name, tensor in tensors.items()
        }

    def resume(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Become what `state` told."""
        self.epoch = _Epoch(**values["epoch"])
        self.rng.set_state(self.epoch.stream)
        self.clock.resume(**values["clock"])
        self.best.metric = values["best"]["metric"]
        self.best.n_worse = values["best"]["n_worse"]
        self.history.extend(values["history"])
        groups: dict[str, dict[str, Tensor]] = {}
        for whole, tensor in tensors.items():
            group, _, name = whole.partition(".")
            groups.setdefault(group, {})[name] = tensor
        _put(groups["weights"], self.model)
        device = self.model.device
        self.best.weights = {
            name: weight.to(device) for name, weight in groups.get("best", {}).items()
        }
        moments: dict[int, dict[str, Tensor]] = {}
        for whole, tensor in groups["optimizer"].items():
            place, _, name = whole.partition(".")
            moments.setdefault(int(place), {})[name] = tensor
        param_groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": param_groups})


def _trainable(model: Any) -> dict[str, Tensor]:
    """Return the weights that training changes, by their names."""
    return {
        name: weight.detach()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def _put(weights: dict[str, Tensor], model: Any) -> None:
    """Give a model's weights the values of others of the same names."""
    own = _trainable(model)
    for name, weight in weights.items():
        own[name].copy_(weight)
