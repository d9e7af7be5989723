"""Pretrain the embedded model that reads tables in context.

Each step draws tables of one shape from the prior and writes them with the package's
own encoder. Some rows of each are its context, with their answers; the loss is that of
the answers to the others [1]_. No table is read twice, so nothing is learnt but how to
read one.

    python examples/pretraining/pretrain_reader.py RUN_FOLDER --minutes 25 \
        --device cuda --workers 15 --compile

The learning rates fall to zero towards the end of the minutes, which are those of
training, over all runs. Run the same command again to go on from the checkpoint, or
another one with ``--start FOLDER`` to begin with the weights of an earlier reader, and
``--seed`` for other tables. Every minute it writes the checkpoint, the mean of the last
weights as an ordinary Hugging Face folder, ``RUN_FOLDER/model``, and in
``RUN_FOLDER/curve.csv`` the losses, as shares of those of answers at random.

References
----------
.. [1] S. Müller et al., "Transformers Can Do Bayesian Inference", ICLR 2022, arXiv
   2112.10510.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import multiprocessing
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from batches import Batch, supply
from reader import LAYERS, N_POSITIONS, build_model, build_tokenizer, word_ids
from torch import Tensor
from torch.nn import functional
from transformers import GPT2LMHeadModel
from transformers.utils import logging

from liftlearn._language_model._in_context import (
    ANSWER,
    CELLS,
    QUESTION,
    Rows,
    sharpness,
)

# Tokens of a step, as many as a GPU is busy with.
TOKENS = 262_144
# Peak learning rates: of matrices in the blocks, and of all else.
MUON_RATE, ADAM_RATE = 0.02, 0.003
# Shares of the time in which they rise and fall, and how long weights are averaged.
WARMUP, FALL, AVERAGED = 0.01, 0.45, 0.998
# How often codes are drawn from all of their family, and not from the first ones; and
# how often columns have their own positions, and not any.
FROM_ALL, IN_ORDER = 0.4, 0.5

# cuDNN plans its attention anew for each shape, which takes longer than a step.
torch.backends.cuda.enable_cudnn_sdp(False)


class View(NamedTuple):
    """A batch as it is read: with random codes, and random positions of columns."""

    ids: Tensor  # (n_tables * n_rows, n_tokens)
    positions: Tensor
    seen: Tensor | None
    allowed: Tensor  # which answers each table has, (n_tables, n_answers)
    target: Tensor  # (n_tables, n_asked), -100 where the context does not have it


class Vocabulary:
    """The tokens of numbers, of codes by their families, and of all answers."""

    def __init__(self, device: torch.device) -> None:
        ids = word_ids()

        def tokens(words: list[str]) -> Tensor:
            return torch.tensor([ids[word] for word in words], device=device)

        def family(letter: str) -> Tensor:
            return tokens([w for w in ids if w[0] == letter and w[1:].isdigit()])

        self.size = max(ids.values()) + 1
        self.numbers = tokens([f"{i:02d}" for i in range(100)])
        self.levels, self.classes, self.words = map(family, "cyw")
        self.answers = torch.cat([self.classes, self.numbers])


def draw_view(batch: Batch, vocabulary: Vocabulary, rng: torch.Generator) -> View:
    """Put a batch on the device; levels, classes, words and columns change places."""
    device = rng.device
    ids = torch.as_tensor(batch.ids, device=device).long()
    answer = torch.as_tensor(batch.answer, device=device).long()
    n_answers = torch.as_tensor(batch.n_answers, device=device).long()[:, None]
    is_number = torch.as_tensor(batch.is_number, device=device)[:, None]
    n_tables, n_context = len(ids), batch.shape.n_context

    def uniform(n: int) -> Tensor:
        return torch.rand(n_tables, n, generator=rng, device=device)

    # 1. Codes are renamed.
    renamed = torch.arange(vocabulary.size, device=device).repeat(n_tables, 1)
    for family in (vocabulary.levels, vocabulary.words):
        renamed[:, family] = family[uniform(len(family)).argsort(1)]
    classes = vocabulary.classes
    is_class = torch.arange(len(classes), device=device) < n_answers
    last = ~is_class & (uniform(1) >= FROM_ALL)
    renamed[:, classes] = classes[(uniform(len(classes)) + 2.0 * last).argsort(1)]
    ids = renamed.gather(1, ids.flatten(1)).view_as(ids)
    # 2. The context is answered.
    coded = torch.where(
        is_number,
        vocabulary.numbers[answer.clamp(0, len(vocabulary.numbers) - 1)],
        renamed.gather(1, classes[answer.clamp(min=0) % len(classes)]),
    )
    ids[:, :n_context, -1] = coded[:, :n_context]
    # 3. Columns have positions. The words of a text share theirs.
    is_word = (ids >= vocabulary.words[0]) & (ids <= vocabulary.words[-1])
    begins = ~is_word & (ids > 0)
    begins[..., -2:] = False
    column = (begins.cumsum(2) - 1).clamp(min=0) % (N_POSITIONS - CELLS)
    own = torch.arange(N_POSITIONS - CELLS, device=device)
    slots = torch.where(uniform(1) < IN_ORDER, own, uniform(len(own)).argsort(1))
    positions = slots.gather(1, column.flatten(1)).view_as(column) + CELLS
    positions[..., -2], positions[..., -1] = QUESTION, ANSWER
    # 4. Pads are not seen.
    seen = None
    if batch.ids.shape[2] > 2 and not batch.ids[..., 0].all():
        seen = (ids > 0).flatten(0, 1)
        seen[:, -1] = False
    # 5. The answers compete that the table has.
    allowed = torch.zeros_like(renamed, dtype=torch.bool)
    allowed.scatter_(1, renamed[:, classes], is_class & ~is_number)
    allowed = allowed[:, vocabulary.answers]
    allowed[:, len(classes) :] = is_number
    index = torch.zeros(vocabulary.size, dtype=torch.long, device=device)
    index[vocabulary.answers] = torch.arange(len(vocabulary.answers), device=device)
    target = index[coded].masked_fill(answer < 0, -100)[:, n_context:]
    return View(ids.flatten(0, 1), positions.flatten(0, 1), seen, allowed, target)


class Learner:
    """The model under training: its weights, their mean, and what moves them."""

    def __init__(self, model: Any, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        # With pads declared each pass looks for them, which waits for the device.
        model.config.pad_token_id = None
        self.model = model.to(self.device)
        self.averaged = copy.deepcopy(self.model)
        self.vocabulary = Vocabulary(self.device)
        self.generator = torch.Generator(self.device).manual_seed(args.seed)
        self.step, self.seconds = 0, 0.0
        # Float32 weights move; a copy in the precision of the products is read.
        self.weights = dict(self.model.base_model.named_parameters())
        precision = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.read = copy.deepcopy(self.model).to(precision).base_model
        matrices = [
            w for name, w in self.weights.items() if name[:2] == "h." and w.ndim == 2
        ]
        others = [w for w in self.weights.values() if all(w is not m for m in matrices)]
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(
            others, ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0
        )
        self.compiled = self.read
        if args.compile:  # once: rows with pads, whose attention is another, go without
            self.compiled = torch.compile(self.read, dynamic=True)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss, and that of each table as a share of a random answer's.

        That of a table without a known answer is nan.
        """
        view = draw_view(batch, self.vocabulary, self.generator)
        n_tables, n_context = len(batch.ids), batch.shape.n_context
        factor = torch.tensor(sharpness(n_context), dtype=self.read.dtype)
        rows = Rows(n_tables, n_context, factor.to(self.device), view.seen)
        read = self.compiled if view.seen is None else self.read
        hidden = read(
            input_ids=view.ids, position_ids=view.positions, use_cache=False, rows=rows
        ).last_hidden_state
        asked = hidden.unflatten(0, (n_tables, -1))[:, n_context:, -2]
        logits = (asked @ self.read.wte.weight[self.vocabulary.answers].T).float()
        logits = logits.masked_fill(~view.allowed[:, None], -torch.inf)
        each = functional.cross_entropy(
            logits.flatten(0, 1), view.target.flatten(), reduction="none"
        ).view_as(view.target)
        n_known = (view.target >= 0).sum(1)
        per_table = each.sum(1) / n_known.clamp(min=1)
        at_random = view.allowed.sum(1).clamp(min=2).log()
        # A guess among a hundred costs more than one among two, and counts less.
        weight = (n_known > 0) / at_random.sqrt()
        loss = (per_table * weight).sum() / weight.sum().clamp(min=1e-6)
        share = torch.where(n_known > 0, per_table / at_random, torch.nan)
        return loss, share.detach()

    def learn(self, batch: Batch, progress: float) -> Tensor:
        """Take a step; return the mean shares of tables for classes and numbers."""
        rate = min(1.0, 0.02 + progress / WARMUP, max(0.0, (1 - progress) / FALL))
        read = dict(self.read.named_parameters())
        with torch.no_grad():
            torch._foreach_copy_(
                [read[n] for n in self.weights], [*self.weights.values()]
            )
        loss, share = self.losses(batch)
        loss.backward()
        for name, weight in self.weights.items():
            weight.grad = read[name].grad.float().nan_to_num_(0.0, 0.0, 0.0)
            read[name].grad = None
        torch.nn.utils.clip_grad_norm_([*self.weights.values()], 1.0)
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * rate
        self.adam.step()
        self.muon.step(MUON_RATE * rate)
        kept = min(AVERAGED, self.step / (self.step + 10))
        with torch.no_grad():
            averaged = [*self.averaged.base_model.parameters()]
            torch._foreach_lerp_(averaged, [*self.weights.values()], 1 - kept)
        self.step += 1
        is_number = torch.as_tensor(batch.is_number, device=self.device)
        return torch.stack([share[~is_number].nanmean(), share[is_number].nanmean()])

    def save(self, folder: Path) -> None:
        """Write the checkpoint, and the mean of the weights as a model."""
        state = {
            "weights": self.model.base_model.state_dict(),
            "averaged": self.averaged.base_model.state_dict(),
            "muon": self.muon.momentum,
            "adam": self.adam.state_dict(),
            "counts": (self.step, self.seconds),
        }
        torch.save(state, folder / "state.new")
        (folder / "state.new").replace(folder / "state.pt")
        model = copy.deepcopy(self.averaged).half().cpu()
        model.config.pad_token_id = build_tokenizer().pad_token_id
        model.save_pretrained(folder / "model")
        build_tokenizer().save_pretrained(folder / "model")

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        self.model.base_model.load_state_dict(state["weights"])
        self.averaged.base_model.load_state_dict(state["averaged"])
        for own, kept in zip(self.muon.momentum, state["muon"], strict=True):
            own.copy_(kept)
        self.adam.load_state_dict(state["adam"])
        for kept in self.adam.state.values():  # on the device each step would wait
            kept["step"] = kept["step"].cpu()
        self.step, self.seconds = state["counts"]
        self.generator.manual_seed(self.generator.initial_seed() + self.step)


class Muon:
    """Momentum whose updates are made orthogonal, for the matrices of hidden layers.

    Queries, keys and values are matrices of their own [1]_; torch's Muon takes them as
    one, and goes through matrices one by one.

    References
    ----------
    .. [1] K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
       2024, https://kellerjordan.github.io/posts/muon.
    """

    def __init__(self, weights: list[torch.nn.Parameter]) -> None:
        self.weights = weights
        self.momentum = [torch.zeros_like(weight) for weight in weights]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the weights against their gradients."""
        grads = [weight.grad for weight in self.weights]
        torch._foreach_lerp_(self.momentum, grads, 0.05)
        updates = torch._foreach_lerp(grads, self.momentum, 0.95)
        pieces = [piece for update in updates for piece in _matrices(update)]
        done = [torch.empty_like(piece) for piece in pieces]
        for shape in {tuple(sorted(piece.shape)) for piece in pieces}:
            like = [i for i, p in enumerate(pieces) if tuple(sorted(p.shape)) == shape]
            stacked = torch.stack([_wide(pieces[i]) for i in like])
            growth = math.sqrt(shape[1] / shape[0])
            for i, moved in zip(like, growth * _orthogonal(stacked), strict=True):
                done[i] = moved if moved.shape == pieces[i].shape else moved.T
        for weight in self.weights:
            n_pieces = len(_matrices(weight))
            own, done = done[:n_pieces], done[n_pieces:]
            weight.mul_(1 - 0.02 * rate).sub_(torch.cat(own, dim=1), alpha=rate)


def _matrices(weight: Tensor) -> tuple[Tensor, ...]:
    """Return queries, keys and values, where a weight holds all three."""
    n_rows, n_columns = weight.shape
    return weight.split(n_rows, dim=1) if n_columns == 3 * n_rows else (weight,)


def _wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def _orthogonal(x: Tensor) -> Tensor:
    """Return about the nearest matrices with orthonormal rows, by Newton-Schulz."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x.to(torch.bfloat16 if x.is_cuda else torch.float32)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.float()


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="Pretrain the reader.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", type=Path, help="the folder of a reader to train on")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--stop", type=float, help="minutes; go on later")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="that draw tables")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a step")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--layers", default=LAYERS)
    parser.add_argument("--save-every", type=float, default=60, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Pretrain until the minutes are over."""
    args = arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()
    multiprocessing.set_start_method("forkserver", force=True)
    model = build_model(args.hidden, args.heads, args.layers, args.seed)
    if args.start:
        model.load_state_dict(GPT2LMHeadModel.from_pretrained(args.start).state_dict())
    learner = Learner(model, args)
    if (args.folder / "state.pt").exists():
        learner.load(args.folder)
    batches = supply(args.seed, learner.step, args.tokens, args.workers)
    total = 60 * args.minutes
    stop = min(total, 60 * (args.stop or args.minutes))
    began = saved = time.monotonic() - learner.seconds
    rows: list[tuple[Batch, float, Tensor]] = []
    n_tokens = 0
    with (args.folder / "curve.csv").open("a", newline="") as curve:
        while learner.seconds < stop:
            batch = next(batches)
            losses = learner.learn(batch, learner.seconds / total)
            n_tokens += batch.ids.size
            learner.seconds = time.monotonic() - began
            rows.append((batch, learner.seconds, losses))
            if time.monotonic() - saved > args.save_every or learner.seconds >= stop:
                saved = time.monotonic()
                learner.save(args.folder)
                _report(learner, rows, n_tokens, csv.writer(curve))
                curve.flush()
                rows.clear()
    batches.close()


def _report(
    learner: Learner, rows: list[tuple[Batch, float, Tensor]], n_tokens: int, curve: Any
) -> None:
    """Write the losses of the last steps, for which the device is waited for."""
    losses = torch.stack([own for _, _, own in rows]).tolist()
    first = learner.step - len(rows)
    for i, ((batch, seconds, _), own) in enumerate(zip(rows, losses, strict=True)):
        shape = batch.shape
        facts = shape.kind, shape.n_tables, shape.n_columns, shape.n_context
        shares = [f"{loss:.4f}" for loss in own]
        curve.writerow([first + i, f"{seconds:.1f}", *facts, *shares])
    means = torch.tensor(losses).nanmean(0).tolist()
    print(
        f"step {learner.step}, {learner.seconds:.0f} s, {n_tokens / 1e6:.1f} M tokens,"
        f" loss of classes {means[0]:.3f}, of numbers {means[1]:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
