"""The training loop, and what a step is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.random import RandomState
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from liftlearn._corpus import Corpus
from liftlearn._finetuner._checkpoint import Checkpoint
from liftlearn._finetuner._members import Monitor
from liftlearn._finetuner._processes import of_main, prepared, total
from liftlearn._finetuner._progress import (
    Bar,
    Batch,
    Best,
    Clock,
    Run,
    grouped,
    passes_of,
    trainable_weights,
)
from liftlearn._language_model import LanguageModel, SentenceScorer

# Prompts of like length are put together within so many batches at a time.
_BUCKET = 16
# Rows of so many tokens need no fused attention.
_SHORT_ROW = 512
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Settings(Protocol):
    """What a fine-tuner settles for its loop."""

    learning_rate_: float
    batch_size_: int
    weight_decay_: float
    warmup_ratio_: float
    max_grad_norm_: float
    mixed_precision_: str
    gradient_accumulation_steps: int
    n_iter_no_change: int
    checkpoint_every: int


@dataclass(eq=False)
class Training:
    """What tunes one ensemble member."""

    settings: Settings
    lm: LanguageModel  # the member, whose weights are changed
    scorer: SentenceScorer
    corpus: Corpus
    rng: RandomState  # for the rows' order and wording
    seed: int  # of dropout
    accelerator: Accelerator

    def __post_init__(self) -> None:
        settings = self.settings
        self._device = self.lm.model.device.type
        optimizer = torch.optim.AdamW(
            [w for w in self.lm.model.parameters() if w.requires_grad],
            lr=settings.learning_rate_,
            weight_decay=settings.weight_decay_,
            fused=True,
        )
        self._scaler = torch.amp.GradScaler(
            self._device, enabled=settings.mixed_precision_ == "fp16"
        )
        self.scorer.train()
        self._module, self._optimizer = prepared(
            self.accelerator, self.scorer, optimizer, self._trial_score
        )

    def run(
        self,
        clock: Clock,
        history: list[dict[str, Any]],
        monitor: Monitor,
        checkpoint: Checkpoint | None,
        bar: Bar,
    ) -> bool:
        """Change the model's weights, and write the history; tell a bar of each step.

        Returns whether the steps were done, or a metric that no longer rises made the
        others needless.
        """
        lm, accelerator, is_main = self.lm, self.accelerator, self.is_main
        best = Best(self.settings.n_iter_no_change)
        run = Run(
            lm.model, self._optimizer, self._scaler, clock, best, self.rng, history
        )
        # 1. From a checkpoint, or from the beginning.
        if not (checkpoint and checkpoint.restore(run.resume)):
            clock.seconds = of_main(accelerator, clock.read())
        bar.advance(clock.n_taken)
        while not clock.is_over and not best.is_settled:
            # 2. An epoch's sentences, written afresh. Batches that were learnt
            # before a resume are only written again, which moves the stream on.
            epoch = run.current_epoch()
            groups = grouped(
                self._epoch(range(epoch.start, clock.n_steps)),
                self.settings.gradient_accumulation_steps,
            )
            for batches in islice(groups, clock.n_taken - epoch.start, None):
                # 3. A step: loss and gradients, then the optimizer.
                self._seed_dropout(clock.n_taken)
                loss = total(accelerator, self._backward(batches))
                self._refuse_divergence(math.isfinite(loss), clock.n_taken)
                clock.seconds = of_main(accelerator, clock.read())
                rate = self.settings.learning_rate_ * self._schedule(clock.progress)
                self._update(rate)
                clock.n_taken += 1
                epoch.add(batches, loss, rate)
                bar.advance()
                if clock.is_over:
                    break
                is_due = clock.n_taken % self.settings.checkpoint_every == 0
                if checkpoint and is_due and is_main:
                    checkpoint.write(*run.state())
            # 4. What the epoch came to, and whether it is the best so far.
            measured = {
                name: value if value is None else of_main(accelerator, value)
                for name, value in monitor.measure(lm).items()
            }
            best.update(lm, measured["monitored"])
            clock.seconds = of_main(accelerator, clock.read())
            run.end_epoch(measured)
            bar.tell_loss(history[-1]["loss"])
        bar.skip(clock.n_steps - clock.n_taken)
        # 5. The best weights, or the last.
        best.restore(lm)
        weights = trainable_weights(lm.model).values()
        are_finite = all(bool(weight.isfinite().all()) for weight in weights)
        self._refuse_divergence(are_finite, clock.n_taken)
        if checkpoint and checkpoint.name and is_main:
            checkpoint.write(*run.state())
        return clock.n_taken >= clock.n_steps or best.is_settled

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        is_main: bool = self.accelerator.is_main_process
        return is_main

    def _seed_dropout(self, n_taken: int) -> None:
        """Let dropout follow from the step and the process, so it needs no state."""
        accelerator = self.accelerator
        first = self.seed + n_taken * accelerator.num_processes
        torch.manual_seed(first + accelerator.process_index)

    def _refuse_divergence(self, is_finite: bool, n_taken: int) -> None:
        """Raise where a loss, or the weights after the last step, are not finite."""
        if not is_finite:
            settings = self.settings
            raise ValueError(
                f"Training diverged: after {n_taken} steps the loss or the weights are "
                f"not finite, with learning_rate={settings.learning_rate_!r} and "
                f"mixed_precision={settings.mixed_precision_!r}. Lower "
                'FineTuner(learning_rate=...), or set mixed_precision="no" if it is '
                '"fp16", whose range is small.'
            )

    def _backward(self, batches: list[Batch]) -> float:
        """Add up the gradients of one step; return this process's sum of losses."""
        accelerator, scorer, lm = self.accelerator, self.scorer, self.lm
        n_rows = sum(len(batch.tokens) for batch in batches)
        passes = [
            (batch, *own)
            for batch in batches
            for own in passes_of(
                batch, accelerator.process_index, accelerator.num_processes
            )
        ]
        summed = 0.0
        for i, (batch, part, n_own) in enumerate(passes):
            # What all of the batch share, so that processes read as many times.
            n_shared = scorer.passes.n_shared(
                batch.tokens, scorer.n_answer_tokens, len(part.tokens)
            )
            inputs = lm.padded([ids[n_shared:] for ids in part.tokens])
            if n_shared:
                start = torch.tensor([part.tokens[0][:n_shared]])
                inputs["start"] = start.to(lm.model.device)
            inputs["steps"] = torch.tensor(part.steps, device=lm.model.device)
            # Processes exchange their gradients once a step.
            is_last = i == len(passes) - 1
            sync = nullcontext() if is_last else accelerator.no_sync(self._module)
            with sync, self._attention(inputs["input_ids"].shape[1]):
                with self._autocast():
                    score = self._module(**inputs)[:n_own]  # (n_own,)
                # The exchange takes the mean over the processes.
                loss = -score.sum() * (accelerator.num_processes / n_rows)
                accelerator.backward(self._scaler.scale(loss))
            summed -= score.detach().double().sum().item()
        return summed

    def _trial_score(self) -> Tensor:
        """Return the score of a row of one token, which all weights in use change."""
        tokens, steps = self.scorer.examples([[0]], [[0] * len(self.scorer.fields)])
        inputs = self.lm.padded(tokens)
        inputs["steps"] = torch.tensor(steps, device=self.lm.model.device)
        with self._autocast():
            score: Tensor = self.scorer(**inputs)
        return score

    def _update(self, rate: float) -> None:
        """Change the weights by their gradients, and forget these."""
        optimizer, scaler = self._optimizer, self._scaler
        scaler.unscale_(optimizer)
        for group in optimizer.param_groups:
            self.accelerator.clip_grad_norm_(
                group["params"], self.settings.max_grad_norm_
            )
            group["lr"] = rate
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    def _epoch(self, steps: range) -> Iterator[Batch]:
        """Yield the batches of one pass over the rows, within the steps to go."""
        lm, scorer, corpus, rng = self.lm, self.scorer, self.corpus, self.rng
        batch_size = self.settings.batch_size_
        rows_a_step = batch_size * self.settings.gradient_accumulation_steps
        rows = corpus.draw(rng)[: len(steps) * rows_a_step]
        size = batch_size * _BUCKET
        for start in range(0, len(rows), size):
            progress = (steps.start + start / rows_a_step) / steps.stop
            prompts, *answers = corpus.write(rows[start : start + size], rng, progress)
            tokens, asked = scorer.examples(
                lm.prompt_tokens(prompts, scorer.n_answer_tokens), *answers
            )
            # A stable sort leaves rows of one length in their random order.
            order = np.argsort([len(ids) for ids in tokens], kind="stable")
            starts = np.arange(0, len(order), batch_size)
            for first in rng.permutation(starts):
                picked = order[first : first + batch_size]
                yield Batch([tokens[i] for i in picked], asked[picked])

    def _schedule(self, progress: float) -> float:
        """Return the learning rate's share of its peak: a rise, then a fall to zero."""
        warmup = float(self.settings.warmup_ratio_)
        if progress < warmup:
            return progress / warmup
        return (1.0 - progress) / (1.0 - warmup) if progress < 1 else 0.0

    def _attention(self, n_tokens: int) -> Any:
        """Return the kernel of attention, in the forward and the backward pass.

        The gradients of the fused one take a processor three times as long in bf16. Of
        long rows it saves much memory.
        """
        is_slow = self.settings.mixed_precision_ == "bf16" and self._device == "cpu"
        if is_slow and n_tokens <= _SHORT_ROW:
            return sdpa_kernel(SDPBackend.MATH)
        return nullcontext()

    def _autocast(self) -> Any:
        """Return the forward pass's precision; accelerate's own is process-wide."""
        precision = self.settings.mixed_precision_
        if precision == "no":
            return nullcontext()
        # Within a caller's autocast its cache would keep weights from before a step.
        return torch.autocast(self._device, DTYPES[precision], cache_enabled=False)
