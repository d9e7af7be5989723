"""The fine-tuner: its parameters, what they stand for, and what a fit is."""

from __future__ import annotations

import math
import time
import warnings
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from numpy.random import RandomState
from sklearn.exceptions import ConvergenceWarning

from liftlearn._answers import NumberAnswers
from liftlearn._corpus import Corpus
from liftlearn._finetuner._checkpoint import Checkpoint, describe_fit
from liftlearn._finetuner._cost import PeakMemory, TrainingCost, bytes_of
from liftlearn._finetuner._loop import DTYPES, Training
from liftlearn._finetuner._members import Member, Metric, Monitor, agree, split
from liftlearn._finetuner._processes import FITS, new_accelerator, own_state
from liftlearn._finetuner._progress import Bar, Clock, Rehearsal
from liftlearn._language_model import (
    Ensemble,
    LanguageModel,
    SentenceScorer,
    is_to_spread,
    plain_torch,
)
from liftlearn._rules import (
    Part,
    TrainingRows,
    epochs_by_table,
    fraction_by_table,
    is_auto,
    is_rule,
    models_by_table,
    rate_by_table,
    steps_by_table,
)
from liftlearn._validation import HasMethods, Interval, StrOptions

# Models of more weights learn through an adapter, or at a lower rate.
_LARGE = 10_000_000
# A loss of so many times that of a model that knows nothing tells of divergence.
_FAR_ABOVE = 20
# A short schedule's share of the steps, and by which share better it must predict.
_SHORT, _MUCH_BETTER = 0.25, 0.05
# So many rows tell the length of all.
_MOST_MEASURED = 100
# So many rows tell how many tokens all have, and so many seconds how long steps take.
_MOST_COUNTED = 2000
_REHEARSAL = 1.0

_AUTO = StrOptions({"auto"})
_COUNT = Interval(Integral, 1, None, closed="left")


class _Fit(NamedTuple):
    """What the members of one fit share."""

    starts: tuple[LanguageModel, ...]  # one for all members, or one for each
    rng: RandomState
    n_most: int
    metric: Metric | None
    bar: Bar
    checkpoints: list[Checkpoint]


class _Tuned(NamedTuple):
    """A tuned model, and how it came about."""

    lm: LanguageModel
    history: list[dict[str, Any]]
    n_steps: int


class _Training(NamedTuple):
    """What one member is to learn."""

    seen: Corpus
    n_held_out: int
    n_steps: int
    n_short_steps: int  # of a short schedule that is tried beside the full one


class FineTuner(Part):
    """Teach a causal language model to answer prompts, with its own next-token loss.

    Only the answer is learnt, not the prompt. Each epoch reads prompts written afresh.
    The optimizer is AdamW with linear warm-up and linear decay, and clipped gradients.

    A parameter left at ``"auto"`` takes the model's preference, and the value after
    "else" for a model without one. The values in use are stored in attributes of the
    same names with a trailing underscore. The user guide has the embedded model's
    preferences in a table.

    Parameters
    ----------
    n_epochs : int or "auto", default="auto"
        Most passes over the rows. Else: 10.
    max_steps : int, None or "auto", default="auto"
        Most optimizer steps. None sets no bound. Else: None.
    learning_rate : float or "auto", default="auto"
        Peak learning rate. Else: without an adapter 1e-3 for models of up to ten
        million weights and 1e-4 for larger ones; with one 0.6 over the model's width,
        as for Adam in [4]_, at most 1e-3.
    batch_size : int or "auto", default="auto"
        Rows in one batch. Long rows are read in several passes of at most 4096
        tokens, which changes nothing but the rounding. Else: 8.
    weight_decay : float or "auto", default="auto"
        Decoupled weight decay. Else: 0.01.
    warmup_ratio : float or "auto", default="auto"
        Share of the steps in which the learning rate rises. Else: 0.1.
    max_grad_norm : float or "auto", default="auto"
        Norm to which gradients are clipped. Else: 1.
    gradient_accumulation_steps : int, default=1
        Batches that make one optimizer step.
    mixed_precision : {"auto", "no", "bf16", "fp16"}, default="auto"
        Precision of the matrix products, and of the weights under an adapter while it
        is trained. What is trained is float32. Else: ``"bf16"`` with an adapter over
        a bf16 model, or where that is faster, and ``"no"``, float32, otherwise.
    n_models : int or "auto", default="auto"
        How many ensemble members are tuned; the mean of their predictions is
        predicted [5]_. The first of several holds out rows, which tell how
        overconfident members are. In a warm start all members go on. Else: 1.
    early_stopping : bool or "auto", default="auto"
        Whether each member holds out rows, stops when the metric on them no longer
        rises, and keeps the weights that did best: by accuracy for classes, by the
        mean absolute error for numbers. Validation rows that `fit` is given take the
        place of held-out ones, but don't switch it on. Else: False.
    validation_fraction : float or "auto", default="auto"
        Share of the rows that is held out, by the first of several members or for
        early stopping; none where `fit` is given validation rows. Else: 0.1.
    n_iter_no_change : int, default=5
        Epochs without a better metric after which training stops early.
    constrained : bool, default=True
        Whether only tokens that an answer can have compete in the loss, as they do
        when the model is used. False is the loss of the paper: all tokens compete.
    max_time : float, default=None
        Seconds that training may take, of all members together; the learning rate
        reaches its end by then.
    adapter : "auto", peft.LoraConfig or None, default="auto"
        What is trained: all weights, None, or an adapter beside weights that all fits
        share. ``"auto"`` goes on with the adapter of a model that has one. Else, for
        models of more than ten million weights, it is LoRA of rank 16 on all linear
        layers but the head [3]_. Adapters need the package peft.
    gradient_checkpointing : bool, default=False
        Whether to compute each layer again for its gradients rather than to keep what
        it computed: less memory, a third more time, the same result.
    checkpoint_dir : str or PathLike, default=None
        A folder for the state of training; None writes nothing. The same `fit`, called
        again after it was interrupted or killed, goes on from there and ends with the
        same weights. It is refused if the data, a parameter, the model or the
        ``random_state``, which must be an int, differs. A fit that ends empties the
        folder. Fits that run side by side need one each.
    checkpoint_every : int, default=100
        Optimizer steps from one checkpoint to the next.

    Attributes
    ----------
    adapter_ : peft.LoraConfig or None
        The adapter in use.
    history_ : list of dict
        For each epoch the ``model``, which is the member's number from 0, the mean
        ``loss`` in nats, the last ``learning_rate``, the count of ``tokens`` read
        (padding left out), the ``monitored`` metric (None without early stopping), of
        validation rows of your own the mean ``val_loss`` in nats and the metric as
        ``val_score`` (None without such rows), and the ``seconds`` since training
        began.
    n_steps_ : int
        Optimizer steps taken by the last member.
    n_models_ : int
        How many ensemble members were tuned.
    short_schedule_ : bool
        Whether members took a quarter of their steps, which predicted held-out rows
        better.
    n_epochs_, max_steps_, learning_rate_, batch_size_, weight_decay_, warmup_ratio_, \
max_grad_norm_, mixed_precision_, early_stopping_, validation_fraction_
        The values in use.

    References
    ----------
    .. [1] T. Dinh et al., "LIFT: Language-Interfaced Fine-Tuning for Non-Language
       Machine Learning Tasks", NeurIPS 2022, section 2.
    .. [2] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR
       2019.
    .. [3] T. Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", NeurIPS
       2023: adapters on all linear layers.
    .. [4] G. Yang et al., "Tensor Programs V: Tuning Large Neural Networks via
       Zero-Shot Hyperparameter Transfer", NeurIPS 2021.
    .. [5] B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and Scalable
       Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from liftlearn import FineTuner, LIFTClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> tuner = FineTuner(max_steps=10, n_models=1)
    >>> LIFTClassifier(finetuner=tuner, random_state=0).fit(X, y).finetuner_.n_steps_
    10
    """

    learning_rate_: Any
    validation_fraction_: Any
    _ruled = frozenset(
        {"n_epochs", "max_steps", "learning_rate", "n_models", "validation_fraction"}
    )
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
        "n_models": [_AUTO, _COUNT],
        "early_stopping": [_AUTO, "boolean"],
        "validation_fraction": [_AUTO, Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [_COUNT],
        "constrained": ["boolean"],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "adapter": [_AUTO, HasMethods("save_pretrained"), None],
        "gradient_checkpointing": ["boolean"],
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
        n_models: int | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float | str = "auto",
        n_iter_no_change: int = 5,
        constrained: bool = True,
        max_time: float | None = None,
        adapter: Any = "auto",
        gradient_checkpointing: bool = False,
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
        self.n_models = n_models
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.constrained = constrained
        self.max_time = max_time
        self.adapter = adapter
        self.gradient_checkpointing = gradient_checkpointing
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every

    def finetune(
        self,
        lm: LanguageModel | Ensemble,
        corpus: Corpus,
        rng: RandomState,
        *,
        metric: Metric | None = None,
        verbose: int = 0,
    ) -> list[Member]:
        """Return ensemble members, each the language model tuned on the corpus.

        Parameters
        ----------
        lm : LanguageModel or Ensemble
            The model to start from, or members, each of which is tuned further. They
            are not changed.
        corpus : Corpus
            What to learn. Its ``validation`` rows, where it has some, are measured
            after each epoch, and then no member holds rows out.
        rng : numpy.random.RandomState
            The stream for held-out rows, the rows' order and wording, and dropout.
        metric : callable, default=None
            Tells how well a language model does on a corpus of held-out rows; higher
            is better. Early stopping needs it, and so does a short schedule.
        verbose : int, default=0
            Above 0 one progress bar is shown for all members; not in joblib's workers.

        Returns
        -------
        members : list of Member
            As many as ``n_models_``: each a pair of a tuned model, ``lm``, and the
            corpus of the rows that it held out, ``held_out``, or None.

        Raises
        ------
        ValueError
            If early stopping has no metric, or no row is left to learn from; if
            ``n_models`` is not the number of members to tune further; if a
            prompt is longer than the model can read; if the adapter would change
            the model's own weights or its head; if the checkpoint in
            ``checkpoint_dir`` is of another fit; if accelerate was launched to spread
            the model over processes by DeepSpeed or Megatron-LM, or by FSDP one that
            can't be; if training diverges until the loss or the weights are not finite.
        TypeError
            If the adapter is not a ``peft.LoraConfig``.
        ImportError
            If there is to be an adapter, but peft is not installed.
        MemoryError
            If training takes more memory than there is.

        Warns
        -----
        ConvergenceWarning
            If ``max_time`` ended training before its steps were done, or the loss rose
            far above that of answers at random.
        """
        self._validate_params()
        starts = lm.members if isinstance(lm, Ensemble) else (lm,)
        self._check_count(starts)
        self._settle(starts[0], corpus)
        if self.early_stopping_ and metric is None:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} needs a metric(lm, rows), got "
                "metric=None. Give finetune(metric=...), or set "
                "FineTuner(early_stopping=False)."
            )
        self.history_: list[dict[str, Any]] = []
        self.short_schedule_ = False
        if starts[0].reads_in_context:
            return self._untuned(starts[0])
        n_most = self._most_models(starts, corpus)
        bar = Bar(self._most_steps(starts, corpus, n_most) if verbose else None)
        fit = _Fit(starts, rng, n_most, metric, bar, [])
        try:
            return self._members(fit, corpus)
        finally:
            bar.close()

    def _members(self, fit: _Fit, corpus: Corpus) -> list[Member]:
        """Return tuned members, until there are enough."""
        starts, n_most = fit.starts, fit.n_most
        # Members that go on do so all.
        may_stop = is_rule(self._chosen("n_models")) and len(starts) == 1
        members: list[Member] = []
        unseen = corpus.validation
        while len(members) < n_most and not (may_stop and agree(members, unseen)):
            seen, held_out = corpus, None
            if self._holds_out(len(members), n_most, corpus):
                seen, held_out = split(corpus, self.validation_fraction_, fit.rng)
                unseen = held_out if unseen is None else unseen
            rows = corpus.validation if held_out is None else held_out
            tuned = self._member(fit, len(members), seen, rows)
            members.append(Member(tuned, held_out))
        # Kept until now, so that an interrupted fit tunes no member twice.
        for checkpoint in fit.checkpoints:
            checkpoint.remove()
        return members

    def estimate(
        self, lm: LanguageModel | Ensemble, corpus: Corpus, rng: RandomState
    ) -> TrainingCost:
        """Return what `finetune` takes, by the time and memory of its first steps.

        Parameters
        ----------
        lm : LanguageModel or Ensemble
            The model to start from, or members, as in `finetune`. They are not changed.
        corpus : Corpus
            What is to be learnt.
        rng : numpy.random.RandomState
            The stream of the steps that are tried.

        Returns
        -------
        cost : TrainingCost
            Counts, seconds and bytes, with all members and all their steps, which a
            fit need not take; and ``lm``, a model after the steps that were tried.

        Raises
        ------
        ValueError, TypeError, ImportError, MemoryError
            Where `finetune` would.
        """
        self._validate_params()
        trial = copy(self)  # what it settles is not this one's
        trial.checkpoint_dir = trial.max_time = None
        starts = lm.members if isinstance(lm, Ensemble) else (lm,)
        trial._check_count(starts)
        trial._settle(starts[0], corpus)
        trial.history_ = []
        if starts[0].reads_in_context:
            trial._untuned(starts[0])
            return TrainingCost(starts[0], 1, 0, 0, 0.0, 0, 0.0, 0)
        cost = trial._rehearsed(starts, corpus, rng)
        if self.max_time is None:
            return cost
        return replace(cost, seconds=min(cost.seconds, self.max_time))

    def _rehearsed(
        self, starts: tuple[LanguageModel, ...], corpus: Corpus, rng: RandomState
    ) -> TrainingCost:
        """Return the cost of all members, by a few steps of one."""
        n_most = self._most_models(starts, corpus)
        fit = _Fit(starts, rng, n_most, None, Bar(None), [])
        trainings = self._trainings(starts, corpus, n_most, rng)
        seen = trainings[-1].seen
        n_steps = sum(own.n_steps for own in trainings)
        n_extra = sum(own.n_short_steps for own in trainings)
        n_rows_read = sum(
            self._n_rows_read(own.n_steps, len(own.seen)) for own in trainings
        )
        n_trainings = sum(1 + (own.n_short_steps > 0) for own in trainings)
        # For the choice of a schedule; for early stopping, or the temperature and the
        # members' agreement.
        n_asked = self.n_epochs_ if self.early_stopping_ else min(n_most, 3)
        n_measured = sum(
            own.n_held_out * (n_asked + 2 * (own.n_short_steps > 0))
            for own in trainings
        )
        # The longest rows take the most memory; and what torch sets up at first.
        few = seen
        if getattr(seen, "shots", None) is None:
            few = _longest(starts[0], seen, self._rows_a_step)
        monitor = Monitor(None, None, None)
        with PeakMemory() as memory:
            held = self._tune(
                fit,
                0,
                few,
                monitor,
                is_short=False,
                clock=Rehearsal(min(n_steps, 1), 0.0),
            )
        del held
        start = time.monotonic()
        clock = Rehearsal(self._n_steps(len(seen)), _REHEARSAL)
        tuned = self._tune(fit, 0, seen, monitor, is_short=False, clock=clock)
        spent = time.monotonic() - start
        beside = max(0.0, spent - tuned.n_steps * clock.seconds_a_step)
        per_row = _tokens_per_row(starts[0], seen, rng)
        kept = 0 if self.adapter_ is not None else bytes_of(tuned.lm.model)
        return TrainingCost(
            lm=tuned.lm,
            n_models=n_most,
            n_steps=n_steps,
            n_tokens=round(per_row * n_rows_read),
            tokens_per_row=per_row,
            n_rows_measured=n_measured,
            seconds=(n_steps + n_extra) * clock.seconds_a_step + n_trainings * beside,
            memory=bytes_of(starts[0].model) + memory.most + (n_most - 1) * kept,
        )

    def _trainings(
        self,
        starts: tuple[LanguageModel, ...],
        corpus: Corpus,
        n_most: int,
        rng: RandomState,
    ) -> list[_Training]:
        """Return what each member is to learn, with rows that the stream holds out."""
        # With a single answer there is nothing to learn.
        learns = any(field.trie.nodes for field in starts[0].fields(corpus.fields))
        trainings = []
        for which in range(n_most):
            seen, n_held_out = corpus, 0
            if self._holds_out(which, n_most, corpus):
                seen, held_out = split(corpus, self.validation_fraction_, rng)
                n_held_out = len(held_out)
            self._settle_length(starts[0], seen)
            n_steps = self._n_steps(len(seen)) if learns else 0
            has_unseen = n_held_out > 0 or corpus.validation is not None
            compares = has_unseen and self._compares_schedules(which, n_most, seen)
            n_short = math.ceil(_SHORT * n_steps) if compares else 0
            trainings.append(_Training(seen, n_held_out, n_steps, n_short))
        return trainings

    def _most_steps(
        self, starts: tuple[LanguageModel, ...], corpus: Corpus, n_most: int
    ) -> int:
        """Return how many steps all trainings take at the most."""
        rng = RandomState(0)  # which rows are held out does not matter
        trainings = self._trainings(starts, corpus, n_most, rng)
        return sum(own.n_steps + own.n_short_steps for own in trainings)

    def _n_rows_read(self, n_steps: int, n_rows: int) -> int:
        """Return how many rows are read in so many steps."""
        n_batches = math.ceil(n_rows / self.batch_size_)
        an_epoch = math.ceil(n_batches / self.gradient_accumulation_steps)
        n_epochs, rest = divmod(n_steps, an_epoch)
        n_read: int = n_epochs * n_rows + min(rest * self._rows_a_step, n_rows)
        return n_read

    def _holds_out(self, which: int, n_most: int, corpus: Corpus) -> bool:
        """Return whether a member leaves rows out.

        Each does to stop early. Else the first of several does, to tell how
        overconfident they are, and how long to learn noisy numbers.
        """
        is_asked = self.early_stopping_ or (n_most > 1 and not which)
        return bool(is_asked) and corpus.validation is None

    def _compares_schedules(self, which: int, n_most: int, seen: Corpus) -> bool:
        """Return whether a member is tuned by a short schedule, too, given unseen rows.

        The first of several is, unless it stops early.
        """
        is_first = n_most > 1 and not which and not self.early_stopping_
        is_number = isinstance(seen.answers, NumberAnswers)
        return is_first and is_number and is_rule(self._chosen("max_steps"))

    def _untuned(self, lm: LanguageModel) -> list[Member]:
        """Return a model that sees the rows through its attention, as it is."""
        if self.n_epochs_ and self.max_steps_ != 0:
            raise ValueError(
                "This model sees labelled rows through its attention, which is not "
                f"fine-tuned, but n_epochs={self.n_epochs_!r}. Set "
                "FineTuner(n_epochs=0) to read the table in context, or another model "
                "to train."
            )
        self.n_models_, self.n_steps_ = 1, 0
        return [Member(lm, None)]

    def _member(
        self, fit: _Fit, which: int, seen: Corpus, unseen: Corpus | None
    ) -> LanguageModel:
        """Tune one member; the first may find that a quarter of the steps is better."""
        self._settle_length(fit.starts[0], seen)
        self.n_models_ = which + 1
        watched = unseen if self.early_stopping_ else None
        monitor = Monitor(fit.metric, watched, seen.validation)
        tune = partial(self._tune, fit, which, seen, monitor)
        compares = self._compares_schedules(which, fit.n_most, seen)
        if fit.metric and unseen is not None and compares:
            short = tune(is_short=True, time_share=_SHORT)
            full = tune(is_short=False, time_share=1 - _SHORT)
            self.short_schedule_ = is_much_better(
                fit.metric(short.lm, unseen), fit.metric(full.lm, unseen)
            )
            tuned = short if self.short_schedule_ else full
            if self.short_schedule_:  # so will the others' be
                fit.bar.skip((fit.n_most - 1) * (full.n_steps - short.n_steps))
        else:
            tuned = tune(is_short=self.short_schedule_)
        self.history_ += [{"model": which, **epoch} for epoch in tuned.history]
        self.n_steps_ = tuned.n_steps
        return tuned.lm

    def _tune(
        self,
        fit: _Fit,
        which: int,
        corpus: Corpus,
        monitor: Monitor,
        *,
        is_short: bool,
        time_share: float = 1.0,
        clock: Clock | None = None,
    ) -> _Tuned:
        """Return a tuned model, after a quarter of the steps or all.

        The share is that of a member's time. A clock of one's own ends it sooner.
        """
        lm, rng = fit.starts[which % len(fit.starts)], fit.rng
        history: list[dict[str, Any]] = []
        n_taken = 0
        n_steps = self._n_steps(len(corpus))
        if is_short:
            n_steps = math.ceil(_SHORT * n_steps)
        fields = lm.fields(corpus.fields)
        name = "" if fit.n_most == 1 else f"{which}-short" if is_short else str(which)
        checkpoint = self._checkpoint(lm, corpus, rng, name)
        member = f", member {which + 1} of {fit.n_most}" if name else ""
        fit.bar.name(member + ", short schedule" * is_short)
        max_time = self.max_time and time_share * self.max_time / fit.n_most
        with FITS.taken(), own_state(), ExitStack() as stack:
            accelerator = new_accelerator(lm.model.device)
            device = accelerator.device if is_to_spread() else lm.model.device
            stack.enter_context(plain_torch(device))
            devices = [] if device.type == "cpu" else [device]
            stack.enter_context(torch.random.fork_rng(devices))
            seed = rng.randint(2**31)
            torch.manual_seed(seed)
            adapter = self._adapter_of(lm)
            tuned = lm.trainable_copy(adapter, DTYPES[self.mixed_precision_])
            if self.gradient_checkpointing:
                tuned.checkpoint_activations()
            if is_to_spread():
                tuned.spread(device)
            # With a single answer there is nothing to learn.
            if any(field.trie.nodes for field in fields):
                scorer = SentenceScorer(
                    tuned.model, fields, constrained=self.constrained
                )
                try:
                    training = Training(
                        self, tuned, scorer, corpus, rng, seed, accelerator
                    )
                    clock = clock or Clock(n_steps, max_time)
                    is_done = training.run(
                        clock,
                        history,
                        monitor,
                        checkpoint,
                        fit.bar,
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
                n_taken = clock.n_taken
                if checkpoint and training.is_main:
                    fit.checkpoints.append(checkpoint)
                if not is_done and max_time is not None:
                    self._warn_of_time(n_taken, n_steps)
                self._warn_of_rise(scorer.blind_loss, history)
        return _Tuned(tuned.scoring_copy(), history, n_taken)

    def _check_count(self, starts: tuple[LanguageModel, ...]) -> None:
        """Raise if there are to be more, or fewer, members than several that go on."""
        is_other = not is_auto(self.n_models) and self.n_models != len(starts)
        if len(starts) > 1 and is_other:
            raise ValueError(
                f"n_models={self.n_models!r}, but {len(starts)} members are to be "
                'tuned further. Set FineTuner(n_models="auto"), or '
                f"n_models={len(starts)}; warm_start=False begins afresh."
            )

    def _most_models(self, starts: tuple[LanguageModel, ...], corpus: Corpus) -> int:
        """Return how many members are to be tuned, at the most."""
        if len(starts) > 1:
            return len(starts)
        n_models = self._chosen("n_models", 1)
        if not is_rule(n_models):
            return int(n_models)
        n_rows_read = self._n_steps(len(corpus)) * self._rows_a_step
        return models_by_table(_training_rows(starts[0], corpus), n_rows_read)

    def _settle(self, lm: LanguageModel, corpus: Corpus) -> None:
        """Store the values in use of all parameters that may be ``"auto"``."""
        n_weights = sum(weight.numel() for weight in lm.model.parameters())
        is_large = lm.is_quantized or n_weights > _LARGE
        self.adapter_ = self.adapter
        if is_auto(self.adapter):
            self.adapter_ = lm.adapter or (lm.default_adapter() if is_large else None)
        rate, precision = (1e-4 if is_large else 1e-3), "no"
        if self.adapter_ is not None:
            width = lm.model.get_input_embeddings().weight.shape[1]
            rate = min(1e-3, 0.6 / width)
            precision = lm.adapter_precision
        default = {
            "n_epochs": 10,
            "max_steps": None,
            "learning_rate": rate,
            "batch_size": 8,
            "weight_decay": 0.01,
            "warmup_ratio": 0.1,
            "max_grad_norm": 1.0,
            "mixed_precision": precision,
            "early_stopping": False,
            "validation_fraction": 0.1,
        }
        for name, value in default.items():
            setattr(self, f"{name}_", self._chosen(name, value))
        if is_rule(self.learning_rate_):
            self.learning_rate_ = rate_by_table(_has_dropout(corpus))
        if is_rule(self.validation_fraction_):
            stops_early = bool(self.early_stopping_)
            share = fraction_by_table(len(corpus), stops_early=stops_early)
            self.validation_fraction_ = share
        self._settle_length(lm, corpus)

    def _adapter_of(self, lm: LanguageModel) -> Any:
        """Return the adapter that is trained: a member's own, where it goes on."""
        own = lm.adapter
        goes_on = own is not None and is_auto(self.adapter)
        return own if goes_on else self.adapter_

    def _settle_length(self, lm: LanguageModel, corpus: Corpus) -> None:
        """Store the epochs and steps that suit the rows of a fit, or of a member."""
        ruled = {n for n in ("n_epochs", "max_steps") if is_rule(self._chosen(n))}
        if not ruled:
            return
        rows = _training_rows(lm, corpus)
        if "n_epochs" in ruled:
            self.n_epochs_ = epochs_by_table(rows, self._rows_a_step)
        if "max_steps" in ruled:
            self.max_steps_ = steps_by_table(rows, self._rows_a_step)

    def _checkpoint(
        self, lm: LanguageModel, corpus: Corpus, rng: RandomState, name: str
    ) -> Checkpoint | None:
        """Return where a member's state is kept, if it is."""
        if self.checkpoint_dir is None:
            return None
        names = set(self.get_params(deep=False)) - {
            "checkpoint_dir",
            "checkpoint_every",
        }
        in_use = {
            name: getattr(self, f"{name}_", getattr(self, name)) for name in names
        }
        fit = describe_fit(lm, corpus, rng, in_use)
        return Checkpoint(self.checkpoint_dir, fit, name)

    def _warn_of_time(self, n_taken: int, n_steps: int) -> None:
        warnings.warn(
            f"max_time={self.max_time!r} seconds ended training after "
            f"{n_taken} of {n_steps} steps. Raise max_time, or lower n_epochs or "
            "max_steps.",
            ConvergenceWarning,
            stacklevel=6,
        )

    def _warn_of_rise(self, blind: float, history: list[dict[str, Any]]) -> None:
        """Warn where the loss was far above that of a model that knows nothing."""
        highest = max((epoch["loss"] for epoch in history), default=0.0)
        if highest > _FAR_ABOVE * blind:
            warnings.warn(
                f"The loss rose to {highest:.3g} in training, where answers at random "
                f"have {blind:.3g}: learning_rate={self.learning_rate_!r} is too high "
                "for this model. Lower FineTuner(learning_rate=...).",
                ConvergenceWarning,
                stacklevel=6,
            )

    @property
    def _rows_a_step(self) -> int:
        batch_size: int = self.batch_size_
        return batch_size * self.gradient_accumulation_steps

    def _n_steps(self, n_rows: int) -> int:
        """Return how many optimizer steps the epochs take, within ``max_steps``."""
        n_batches = math.ceil(n_rows / self.batch_size_)
        n_steps: int = self.n_epochs_ * math.ceil(
            n_batches / self.gradient_accumulation_steps
        )
        return n_steps if self.max_steps_ is None else min(n_steps, self.max_steps_)


def is_much_better(metric: float, other: float) -> bool:
    """Return whether a metric on held-out rows is better by more than noise.

    >>> is_much_better(-0.9, -1.0), is_much_better(-0.96, -1.0)
    (True, False)
    """
    return metric > other + _MUCH_BETTER * abs(other)


def _training_rows(lm: LanguageModel, corpus: Corpus) -> TrainingRows:
    """Return what the rules ask of the rows to learn from."""
    n_some = min(len(corpus), _MOST_MEASURED)
    fields = lm.fields(corpus.fields)
    if len(fields) > 1 or corpus.answers is None:
        # Of a cell, any text is as good as another.
        n_tokens: float = sum(
            len(field.header) + len(field.trie.whole[0]) - 1 for field in fields
        )
    else:
        some = corpus.part(np.arange(n_some), corpus.weight[:n_some])
        prompts = lm.prompt_tokens(some.prompts())
        n_tokens = sum(map(len, prompts)) / n_some
    return TrainingRows(
        n_rows=len(corpus),
        n_answers=len(fields[0].trie.whole),
        are_numbers=isinstance(corpus.answers, NumberAnswers),
        are_whole=corpus.answers is None,
        has_dropout=_has_dropout(corpus),
        n_tokens=n_tokens,
    )


def _tokens_per_row(lm: LanguageModel, corpus: Corpus, rng: RandomState) -> float:
    """Return the mean count of tokens that a row is read with in training."""
    fields = lm.fields(corpus.fields)
    if not any(field.trie.nodes for field in fields):
        return 0.0
    scorer = SentenceScorer(lm.model, fields)
    rows = rng.permutation(len(corpus))[:_MOST_COUNTED]
    prompts, *answers = corpus.write(rows, rng, 0.5)
    prompt_tokens = lm.prompt_tokens(prompts, scorer.n_answer_tokens)
    tokens, _ = scorer.examples(prompt_tokens, *answers)
    return sum(map(len, tokens)) / len(tokens)


def _longest(lm: LanguageModel, corpus: Corpus, n_rows: int) -> Corpus:
    """Return a corpus of its longest rows."""
    lengths = [len(ids) for ids in lm.prompt_tokens(corpus.prompts())]
    rows = np.sort(np.argsort(lengths, kind="stable")[-n_rows:])
    return corpus.part(rows, corpus.weight[rows])


def _has_dropout(corpus: Corpus) -> bool:
    """Return whether training leaves out cells at random."""
    return bool(getattr(getattr(corpus, "encoder", None), "cell_dropout_", 0.0))
