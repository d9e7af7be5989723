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
from liftlearn._validation import HasMethods, Interval, StrOptions

# Accelerate's state belongs to the process, so fits take turns.
_FITS = threading.RLock()
# Prompts of like length are put together within so many batches at a time.
_BUCKET = 16
# Models of more weights learn through an adapter, or at a lower rate.
_LARGE = 10_000_000
_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

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
        Peak learning rate. Else: 2e-4 with an adapter [3]_; without, 1e-3 for models
        of up to ten million weights and 1e-4 for larger ones.
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
        Precision of the matrix products, and of the weights under an adapter while it
        is trained. What is trained is float32, and so are predictions. ``"auto"`` is
        ``"bf16"`` with an adapter on hardware that has it, and ``"no"``, float32,
        otherwise.
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
    adapter : "auto", peft.LoraConfig or None, default="auto"
        What is trained. None is all weights. A ``LoraConfig`` is an adapter beside the
        model's weights, which stay as they are and are shared by all fits. ``"auto"``
        goes on with the adapter of a model that has one; else, for models of more
        than ten million weights, it is LoRA of rank 16 on all linear layers but the
        head [3]_, and for smaller ones None. Adapters need the package peft.
    gradient_checkpointing : bool, default=False
        Whether to compute each layer again for its gradients rather than to keep what
        it computed: less memory, a third more time, the same result.

    Attributes
    ----------
    adapter_ : peft.LoraConfig or None
        The adapter in use.
    history_ : list of dict
        For each epoch the mean ``loss`` in nats, the last ``learning_rate``, the count
        of ``tokens`` read, the ``monitored`` metric (None without early stopping), and
        the ``seconds`` since training began.
    n_steps_ : int
        Optimizer steps taken.
    n_epochs_, max_steps_, learning_rate_, batch_size_, weight_decay_, warmup_ratio_, \
max_grad_norm_, mixed_precision_, early_stopping_
        The values in use.

    References
    ----------
    .. [1] T. Dinh et al., "LIFT: Language-Interfaced Fine-Tuning for Non-Language
       Machine Learning Tasks", NeurIPS 2022, section 2.
    .. [2] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR
       2019.
    .. [3] T. Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", NeurIPS
       2023: adapters on all linear layers, and their learning rate.

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
        "adapter": [_AUTO, HasMethods("save_pretrained"), None],
        "gradient_checkpointing": ["boolean"],
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
        adapter: Any = "auto",
        gradient_checkpointing: bool = False,
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
        self.adapter = adapter
        self.gradient_checkpointing = gradient_checkpointing

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
            If a prompt is longer than the model can read; if the adapter would change
            the model's own weights or its head.
        TypeError
            If the adapter is not a ``peft.LoraConfig``.
        ImportError
            If there is to be an adapter, but peft is not installed.

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
        devices = [] if lm.model.device.type == "cpu" else [lm.model.device]
        with _FITS, torch.random.fork_rng(devices):
            torch.manual_seed(rng.randint(2**31))
            tuned = lm.trainable_copy(self.adapter_, _DTYPES[self.mixed_precision_])
            if self.gradient_checkpointing:
                tuned.checkpoint_activations()
            # With a single answer there is nothing to learn.
            if trie.nodes:
                scorer = AnswerScorer(tuned.model, trie, constrained=self.constrained)
                self._train(tuned, scorer, corpus, rng, monitor, verbose)
        return tuned.scoring_copy()

    def _settle(self, lm: LanguageModel) -> None:
        """Store the values in use of all parameters that may be ``"auto"``."""
        is_large = sum(weight.numel() for weight in lm.model.parameters()) > _LARGE
        self.adapter_ = self.adapter
        if isinstance(self.adapter, str):
            self.adapter_ = lm.adapter or (lm.default_adapter() if is_large else None)
        rate, precision = (1e-4 if is_large else 1e-3), "no"
        if self.adapter_ is not None:
            rate, precision = 2e-4, "bf16" if _has_bf16(lm.model.device) else "no"
        default = {
            "n_epochs": 10,
            "max_steps": None,
            "learning_rate": rate,
            "batch_size": 16,
            "weight_decay": 0.01,
            "warmup_ratio": 0.1,
            "max_grad_norm": 1.0,
            "mixed_precision": precision,
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
        weights = [w for w in lm.model.parameters() if w.requires_grad]
        optimizer = torch.optim.AdamW(
            weights,
            lr=self.learning_rate_,
            weight_decay=self.weight_decay_,
            fused=True,
        )
        module, optimizer = accelerator.prepare(scorer, optimizer)
        module.train()
        scaler = torch.amp.GradScaler(
            lm.model.device.type, enabled=self.mixed_precision_ == "fp16"
        )
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
                        accelerator.backward(scaler.scale(-score.sum() / n_rows))
                        losses += (-score).tolist()
                        n_tokens += batch["input_ids"].numel()
                    scaler.unscale_(optimizer)
                    accelerator.clip_grad_norm_(weights, self.max_grad_norm_)
                    rate = self.learning_rate_ * self._schedule(clock.progress)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    scaler.step(optimizer)
                    scaler.update()
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
        return torch.autocast(lm.model.device.type, _DTYPES[self.mixed_precision_])


def _has_bf16(device: torch.device) -> bool:
    """Return whether bf16 products are faster than float32 on a device."""
    if device.type == "cpu":
        # Others compute bf16 products, too, but through float32.
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(n) for n in ("avx512_bf16", "amx_bf16", "sve_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(
        including_emulation=False
    )


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
            self._weights = {
                name: weight.detach().clone()
                for name, weight in lm.model.named_parameters()
                if weight.requires_grad
            }
        return score

    def restore(self, lm: LanguageModel) -> None:
        if self._weights is not None:
            lm.model.load_state_dict(self._weights, strict=False)
