"""Fine-tuning: a language model and a corpus go in, a tuned language model comes out.

The only module that imports accelerate.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.random import RandomState
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from tqdm.auto import tqdm

from liftlearn._encoder import Corpus
from liftlearn._language_model import AnswerScorer, LanguageModel
from liftlearn._validation import Interval, StrOptions

# Accelerate's state belongs to the process, so fits take turns.
_FITS = threading.RLock()
# Prompts of like length are put together within so many batches at a time.
_BUCKET = 16

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
        Rows in one forward pass. Else: 16.
    weight_decay : float or "auto", default="auto"
        Decoupled weight decay. Else: 0.01.
    warmup_ratio : float or "auto", default="auto"
        Share of the steps in which the learning rate rises. Else: 0.1.
    max_grad_norm : float or "auto", default="auto"
        Norm to which gradients are clipped. Else: 1.
    gradient_accumulation_steps : int, default=1
        Forward passes that make one optimizer step.
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

    Attributes
    ----------
    history_ : list of dict
        For each epoch the mean ``loss`` in nats, the last ``learning_rate``, the count
        of ``tokens`` read, the ``monitored`` metric (None without early stopping), and
        the ``seconds`` since training began.
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
            If a prompt is longer than the model can read.

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
        tuned = lm.trainable_copy()
        devices = [] if tuned.model.device.type == "cpu" else [tuned.model.device]
        with _FITS, torch.random.fork_rng(devices):
            torch.manual_seed(rng.randint(2**31))
            # With a single answer there is nothing to learn.
            if trie.nodes:
                scorer = AnswerScorer(tuned.model, trie, constrained=self.constrained)
                self._train(tuned, scorer, corpus, rng, monitor, verbose)
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

    def _train(
        self,
        lm: LanguageModel,
        scorer: AnswerScorer,
        corpus: Corpus,
        rng: RandomState,
        monitor: Callable[[LanguageModel], float] | None,
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
        bar = tqdm(total=clock.n_steps, desc="fine-tuning", disable=not verbose)
        with bar:
            while not clock.is_over and not best.is_settled:
                losses, n_tokens = [], 0
                epoch = self._epoch(lm, scorer, corpus, rng, clock)
                for batches in _grouped(epoch, self.gradient_accumulation_steps):
                    n_rows = sum(len(batch["answer"]) for batch in batches)
                    for batch in batches:
                        with self._autocast(lm):
                            score = module(**batch)  # (batch,)
                        accelerator.backward(-score.sum() / n_rows)
                        losses += (-score).tolist()
                        n_tokens += batch["input_ids"].numel()
                    accelerator.clip_grad_norm_(
                        lm.model.parameters(), self.max_grad_norm_
                    )
                    rate = self.learning_rate_ * self._schedule(clock.progress)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.step()
                    optimizer.zero_grad()
                    clock.n_taken += 1
                    bar.update()
                    if clock.is_over:
                        break
                self.history_.append(
                    {
                        "loss": float(np.mean(losses)),
                        "learning_rate": rate,
                        "tokens": n_tokens,
                        "monitored": best.update(lm),
                        "seconds": clock.seconds,
                    }
                )
                bar.set_postfix(loss=self.history_[-1]["loss"])
        self.n_steps_ = clock.n_taken
        best.restore(lm)
        if clock.n_taken < clock.n_steps and not best.is_settled:
            warnings.warn(
                f"max_time={self.max_time!r} seconds ended training after "
                f"{clock.n_taken} of {clock.n_steps} steps. Raise max_time, or lower "
                "n_epochs or max_steps.",
                ConvergenceWarning,
                stacklevel=4,
            )

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
        clock: _Clock,
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of one pass over the rows, or of what is left of it."""
        n_batches = (clock.n_steps - clock.n_taken) * self.gradient_accumulation_steps
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
                batch = lm.padded([tokens[i] for i in picked])
                batch["answer"] = torch.tensor(
                    answers[picked], device=batch["input_ids"].device
                )
                yield batch

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


def _grouped(
    batches: Iterator[dict[str, Tensor]], n: int
) -> Iterator[list[dict[str, Tensor]]]:
    """Yield lists of ``n`` batches, and of what is left at the end."""
    while group := list(islice(batches, n)):
        yield group


@dataclass
class _Clock:
    """How far training is, by steps or by time, whichever is further."""

    n_steps: int
    max_time: float | None

    def __post_init__(self) -> None:
        self.n_taken = 0
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

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
        self._score = -math.inf
        self._n_worse = 0
        self._weights: dict[str, Tensor] | None = None

    @property
    def is_settled(self) -> bool:
        return self._n_worse >= self._patience

    def update(self, lm: LanguageModel) -> float | None:
        if self._monitor is None:
            return None
        score = self._monitor(lm)
        self._n_worse += 1
        if score > self._score:
            self._score, self._n_worse = score, 0
            state = lm.model.state_dict()
            self._weights = {name: weight.clone() for name, weight in state.items()}
        return score

    def restore(self, lm: LanguageModel) -> None:
        if self._weights is not None:
            lm.model.load_state_dict(self._weights)
