"""Pretrain the embedded model: a tiny causal language model, on synthetic tables.

For each synthetic table a copy of the model is fine-tuned just as ``fit`` does it, with
the package's own encoder, answers and `FineTuner`, and the model moves a part of the
way that the copy went. On most of the tables no row is read twice, and the way is the
whole one: Reptile [1]_. On the others a few rows are read again and again, as in a
small table, and the way is that of some last steps on rows of the same table that were
not among them: first-order MAML [2]_, which teaches the model to learn from few rows
what holds for others. What is shipped is an average of the model's path.

    python examples/pretraining/pretrain.py RUN_FOLDER --hours 4

``--start FOLDER`` goes on from a model of an earlier run, which may have had another
script, such as the one that the package has. Run the same command again to go on from
the checkpoint. ``RUN_FOLDER/model`` then holds the model as an ordinary Hugging Face
folder; ``RUN_FOLDER/curve.csv`` the number of each table, the processor seconds so far,
and the loss of the first and the last epoch. Hours are the processors' too, summed over
the workers. ``--evaluate`` prints how well the model learns some tables of
scikit-learn, which never enter training.

References
----------
.. [1] A. Nichol, J. Achiam and J. Schulman, "On First-Order Meta-Learning Algorithms",
   2018, arXiv 1803.02999.
.. [2] C. Finn, P. Abbeel and S. Levine, "Model-Agnostic Meta-Learning for Fast
   Adaptation of Deep Networks", ICML 2017, arXiv 1703.03400.
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import itertools
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from architecture import (
    N_SLOTS,
    PREFERENCES,
    build_model,
    build_tokenizer,
    preferences,
)
from numpy.typing import NDArray
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
)
from sklearn.model_selection import train_test_split
from synthetic import draw_table
from transformers import PreTrainedTokenizerFast

from liftlearn import (
    FineTuner,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    RowEncoder,
)
from liftlearn._answers import LabelAnswers, plain_grid, scaled_grid
from liftlearn._corpus import Corpus

# The share of a copy's way that the model moves: of a whole way, and of one that is
# made of the last steps alone. And how much the average forgets.
OUTER_STEP, OUTER_STEP_LAST = 0.4, 0.6
AVERAGE_POWER = 7.0
# Tables under way at once; each starts from the weights that many tables before it.
WINDOW = 4
# Norm of what tells a token from the mean of its family: columns, levels, class
# codes, bytes. Renaming with every table shrinks it; then new tables are slow to learn.
FAMILY_NORMS = {"x": 1.5, "c": 1.0, "y": 1.0, "byte": 1.0}
# So many steps on new rows follow those on rows that are read again and again.
N_LAST_STEPS = 16
# Tokens read for one table, so that wide ones don't take all the time.
TASK_TOKENS = 200_000
# Share of tables that are wide, beside those that the prior draws.
WIDE_SHARE = 0.5

CARD = """---
license: bsd-3-clause
library_name: transformers
pipeline_tag: text-generation
---

# The embedded model of liftlearn

A tiny causal language model, pretrained on synthetic tables written as sentences. It is
the default of `LIFTClassifier` and `LIFTRegressor`, which fine-tune it on a table in
seconds. It knows no human language, and answers nothing before it is fine-tuned.

A row is written as `x0 53 x1 c7 x2 07 y?`, and answered by `y1`; or `x0 53 y=`, by
`42`. Of wide tables the columns' codes are left out: `53 c7 07 y?`. One token each:
columns `x0` to `x127`, numbers `00` to `99` (the position of the cell on its scale),
category levels `c0` to `c63` and `c?` (not known), class codes `y0` to `y127`, and the
two questions. All other text is spelled in UTF-8 bytes.

## Pretraining

By `examples/pretraining/pretrain.py` of the liftlearn repository: Reptile and
first-order MAML over synthetic tables, each learnt just as `fit` does it, on no real
table.

| | |
| --- | --- |
{table}

A token counts as trained by a table when it is read in its sentences, stands in its
answers, or competes in its loss.
"""


def draw_corpus(
    rng: np.random.RandomState, n_rows: int, n_support: int | None = None
) -> Corpus:
    """Draw a table and write it: mostly as the embedded model's users do.

    The encoder is fitted on the first ``n_support`` rows, or on all.
    """
    wide = bool(rng.uniform() < WIDE_SHARE)
    stream = np.random.default_rng(rng.randint(2**31))
    drawn = draw_table(stream, n_rows=n_rows, wide=wide)
    table = drawn.X if rng.uniform() > 0.07 else _widened(drawn.X, rng)
    names = [_word(rng) + f"{i}" for i in range(table.shape[1])]
    table = table.set_axis(names, axis=1)
    number = drawn.task == "regression"
    wording = {**PREFERENCES["encoder"], "question": "y=" if number else "y?"}
    narrow = table.shape[1] <= 12
    if narrow and rng.uniform() < 0.12:
        wording |= {"columns": "names", "numbers": rng.choice(["plain", "scaled"])}
    elif narrow and rng.uniform() < 0.08:
        wording |= {"numbers": "plain", "digits": int(rng.randint(2, 5))}
    # An encoder that has not seen all rows writes unseen levels and scales' ends.
    n_seen = n_support or n_rows
    if rng.uniform() < 0.3:
        n_seen //= 2
    encoder = RowEncoder()._prefer(wording).fit(table[:n_seen])
    answers = _answers(drawn.y, number, rng)
    return Corpus(encoder, answers, table, drawn.y, np.ones(len(table)))


def _widened(table: pd.DataFrame, rng: np.random.RandomState) -> pd.DataFrame:
    """Put the columns among so many others, nearly empty, that codes take two words.

    The others tell nothing: sparse numbers, a few dense ones, categories.
    """
    n_rows = len(table)
    n_columns = rng.randint(N_SLOTS + 1, 320)
    cells = rng.standard_normal((n_rows, n_columns))
    cells[rng.uniform(size=cells.shape) < rng.choice([0.96, 0.99])] = np.nan
    others = pd.DataFrame(cells, table.index).add_prefix("sparse")
    for i in range(rng.randint(6)):
        others[f"dense{i}"] = rng.standard_normal(n_rows)
    for i in range(rng.randint(4)):
        levels = rng.randint(0, rng.choice([20, 200]), n_rows)
        others[f"level{i}"] = [f"level {level}" for level in levels]
    wide = pd.concat([table, others], axis=1)
    return wide.iloc[:, rng.permutation(wide.shape[1])]


def _answers(target: NDArray[Any], number: bool, rng: np.random.RandomState) -> Any:
    if number:
        if rng.uniform() < 0.08:
            return plain_grid(target, low=None, high=None)
        spacing = "uniform" if rng.uniform() < 0.7 else "mixed"
        return scaled_grid(
            target, np.ones(len(target)), low=None, high=None, spacing=spacing
        )
    classes = np.unique(target)
    kind = rng.choice(["codes", "two", "labels", "words"], p=[0.71, 0.06, 0.08, 0.15])
    if kind == "two":  # as for more classes than there are codes
        words = [f"y{i // 12} y{i % 12}" for i in range(len(classes))]
    elif kind == "words" and len(classes) <= 20:
        words = list({_word(rng): None for _ in range(8 * len(classes))})
        words = words[: len(classes)]
    else:
        words = "codes" if kind == "codes" else "labels"
    return LabelAnswers(classes, words)


# First and last characters of some scripts: texts of two, three and four bytes.
_SCRIPTS = [(0x61, 0x7A)] * 6 + [
    (0x41, 0x5A), (0x21, 0x7E), (0xC0, 0x17F), (0x391, 0x3C9), (0x410, 0x44F),
    (0x5D0, 0x5EA), (0x621, 0x64A), (0x905, 0x939), (0x3041, 0x3096),
    (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x10300, 0x1031F), (0x1F300, 0x1F64F),
]  # fmt: skip


def _word(rng: np.random.RandomState) -> str:
    first, last = _SCRIPTS[rng.randint(len(_SCRIPTS))]
    codes = rng.randint(first, last + 1, rng.randint(2, 9))
    return "".join(chr(code) for code in codes).replace("{", "")


def token_families(tokenizer: PreTrainedTokenizerFast) -> dict[str, list[int]]:
    """Return the tokens that may stand for one another: columns, levels and so on."""
    families: dict[str, list[int]] = {family: [] for family in FAMILY_NORMS}
    for i, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if len(token) == 1:
            families["byte"].append(i)
        elif token[0] == "Ġ" and token[1] in families and token[2:].isdigit():
            families[token[1]].append(i)
    return families


def draw_relabelling(
    families: dict[str, list[int]], n_tokens: int, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Return a random renaming of tokens: each takes the weights of another.

    Slots, levels and class codes are renamed among themselves, so that all of them are
    trained however short the tables; and in half of the tables bytes are, too, so that
    rare ones learn what a letter is.
    """
    renamed = np.arange(n_tokens)
    for family, members in families.items():
        if family != "byte" or rng.uniform() < 0.5:
            renamed[members] = rng.permutation(members)
    return renamed


_EMBEDDING = "model.embed_tokens.weight"
Weights = dict[str, torch.Tensor]


def keep_apart(
    weights: dict[str, NDArray[np.float32]], families: dict[str, list[int]]
) -> None:
    """Give what tells the tokens of a family apart its norm again, in place."""
    embedding = weights[_EMBEDDING].copy()
    for family, members in families.items():
        mean = embedding[members].mean(axis=0)
        own = embedding[members] - mean
        norm = np.linalg.norm(own, axis=1).mean()
        embedding[members] = mean + own * (FAMILY_NORMS[family] / norm)
    weights[_EMBEDDING] = embedding


def run_task(
    seed: tuple[int, int], lm: LanguageModel, weights: Weights
) -> tuple[Weights, NDArray[np.int64], float, float, float]:
    """Fine-tune on one table: the model's move, tokens used, seconds, both losses."""
    began = time.process_time()
    rng = np.random.RandomState(seed)
    families = token_families(lm.tokenizer)
    renamed = draw_relabelling(families, len(lm.tokenizer), rng)
    start = {name: weight.clone() for name, weight in weights.items()}
    start[_EMBEDDING] = start[_EMBEDDING][renamed]
    model = copy.deepcopy(lm.model)
    model.load_state_dict(start, strict=False)
    lm = LanguageModel(model, lm.tokenizer)

    n_steps = int(np.exp(rng.uniform(np.log(20), np.log(100))))
    is_repeated = rng.uniform() < 0.25
    if is_repeated:
        n_epochs = int(np.exp(rng.uniform(0, np.log(20))))
        n_support = max(24, 32 * n_steps // n_epochs)
        corpus = draw_corpus(rng, n_support + 32 * N_LAST_STEPS, n_support)
    else:
        n_support = 32 * n_steps
        corpus = draw_corpus(rng, n_support)
    length = len(lm.prompt_tokens(corpus.encoder.transform(corpus.table[:1]))[0])
    n_steps = min(n_steps, max(12, TASK_TOKENS // (32 * length)))
    # The loss over all tokens teaches also those that never follow, as the pad.
    constrained = bool(rng.uniform() < 0.95)
    support, new = _cut(corpus, n_support)
    tuned, losses = _tuned(lm, support, n_steps, constrained, rng)
    step = OUTER_STEP
    if is_repeated:
        start, step = _weights(tuned), OUTER_STEP_LAST
        tuned, last = _tuned(tuned, new, N_LAST_STEPS, constrained, rng)
        losses += last
    end = _weights(tuned)
    move = {name: step * (end[name] - start[name]) for name in weights}
    unnamed = torch.zeros_like(move[_EMBEDDING])
    unnamed[renamed] = move[_EMBEDDING]
    move[_EMBEDDING] = unnamed
    used = np.zeros(len(renamed), int)
    texts = corpus.write(np.arange(min(len(corpus), 100)), rng)[0]
    answers = lm.trie(corpus.answers.texts).whole
    for ids in itertools.chain(lm.prompt_tokens(texts), answers):
        used[renamed[list(ids)]] = 1
    if not constrained:
        used[:] = 1
    return move, used, time.process_time() - began, losses[0], losses[-1]


def _cut(corpus: Corpus, n_first: int) -> list[Corpus]:
    """Return a corpus of the first rows and one of the others."""
    return [
        dataclasses.replace(
            corpus,
            table=corpus.table[rows],
            target=corpus.target[rows],
            weight=corpus.weight[rows],
        )
        for rows in (slice(n_first), slice(n_first, None))
    ]


def _tuned(
    lm: LanguageModel,
    corpus: Corpus,
    n_steps: int,
    constrained: bool,
    rng: np.random.RandomState,
) -> tuple[LanguageModel, list[float]]:
    """Return the model tuned on a table, and each epoch's loss."""
    tuner = FineTuner(
        max_steps=n_steps, n_epochs=1000, n_models=1, constrained=constrained
    )
    tuner._prefer(PREFERENCES["finetuner"])
    (member,) = tuner.finetune(lm, corpus, rng)
    return member.lm, [epoch["loss"] for epoch in tuner.history_]


def _weights(lm: LanguageModel) -> Weights:
    return {name: w.detach().float() for name, w in lm.model.named_parameters()}


_WORKER: dict[str, LanguageModel] = {}


def _start_worker(folder: str) -> None:
    torch.set_num_threads(1)
    _WORKER["lm"] = LanguageModel.load(folder, device="cpu")


def _work(seed: tuple[int, int], weights: dict[str, NDArray[np.float32]]) -> Any:
    tensors = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    move, *notes = run_task(seed, _WORKER["lm"], tensors)
    return {name: weight.numpy() for name, weight in move.items()}, *notes


@dataclasses.dataclass
class Run:
    """A pretraining run as its checkpoint holds it."""

    weights: dict[str, NDArray[np.float32]]
    average: dict[str, NDArray[np.float32]]
    used: NDArray[np.int64]  # tables that used each token
    families: dict[str, list[int]]
    n_tables: int = 0
    seconds: float = 0.0

    def take(
        self,
        move: dict[str, NDArray[np.float32]],
        used: NDArray[Any],
        seconds: float,
    ) -> None:
        """Move as a tuned copy went, and average the path."""
        self.n_tables += 1
        self.seconds += seconds
        share = (AVERAGE_POWER + 1) / (AVERAGE_POWER + self.n_tables)
        # Not in place: tables under way still have to be sent the weights they had.
        self.weights = {n: w + move[n] for n, w in self.weights.items()}
        keep_apart(self.weights, self.families)
        for name, weight in self.weights.items():
            self.average[name] += share * (weight - self.average[name])
        self.used += used

    def save(self, folder: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        new = folder / "checkpoint.new"
        torch.save(vars(self), new)
        new.replace(folder / "checkpoint.pt")


def export(run: Run, template: LanguageModel, folder: Path) -> None:
    """Write the averaged weights in float16 as a Hugging Face folder."""
    model = copy.deepcopy(template.model).float()
    weights = dict(run.average)
    keep_apart(weights, run.families)
    average = {name: torch.from_numpy(w) for name, w in weights.items()}
    model.load_state_dict(average, strict=False)
    model.config.liftlearn = preferences()
    model.half().save_pretrained(folder)
    template.tokenizer.save_pretrained(folder)
    rows = {"tables": run.n_tables, "processor hours": f"{run.seconds / 3600:.2f}"}
    rows["weights"] = f"{sum(w.size for w in run.average.values()):,}"
    rows["tokens"] = len(run.used)
    rows["tokens never trained"] = int((run.used == 0).sum())
    rows["tables that trained the rarest token"] = int(run.used.min())
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    (folder / "README.md").write_text(CARD.format(table=table))


def evaluate(folder: Path) -> None:
    """Print how well a model learns tables that never enter training."""
    for load in (load_breast_cancer, load_wine, load_digits, load_diabetes):
        X, y = load(return_X_y=True, as_frame=True)
        number = load is load_diabetes
        part = LIFTRegressor if number else LIFTClassifier
        scores = []
        for seed in range(3):
            X_train, X_test, y_train, y_test = train_test_split(
                X, y, train_size=min(200, len(X) // 2), random_state=seed
            )
            fitted = part(folder, random_state=seed).fit(X_train, y_train)
            scores.append(fitted.score(X_test, y_test))
        metric = "R2" if number else "accuracy"
        print(f"{load.__name__[5:]:15}{metric:10}{np.mean(scores):.3f}")


def main() -> None:
    """Start or go on with a run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", type=Path, help="the model to go on from")
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", action="store_true", help="print and stop")
    args = parser.parse_args()
    if args.evaluate:
        evaluate(args.folder / "model")
        return
    start_folder = args.folder / "start"
    if not start_folder.exists():
        tokenizer = build_tokenizer()
        model = build_model(tokenizer, args.hidden, args.layers, args.seed)
        if args.start:
            older = LanguageModel.load(args.start, device="cpu").model
            model.load_state_dict(older.float().state_dict())
        LanguageModel(model, tokenizer).save(start_folder)
    template = LanguageModel.load(start_folder, device="cpu")
    names = dict(template.model.named_parameters())
    weights = {n: w.detach().float().numpy().copy() for n, w in names.items()}
    families = token_families(template.tokenizer)
    keep_apart(weights, families)
    used = np.zeros(len(template.tokenizer), int)
    run = Run(weights, copy.deepcopy(weights), used, families)
    if (args.folder / "checkpoint.pt").exists():
        run = Run(**torch.load(args.folder / "checkpoint.pt", weights_only=False))
    pool = ProcessPoolExecutor(
        args.workers, initializer=_start_worker, initargs=(str(start_folder),)
    )
    with pool, (args.folder / "curve.csv").open("a", newline="") as file:
        curve = csv.writer(file)
        under_way: deque[Any] = deque()
        while run.seconds < args.hours * 3600:
            while len(under_way) < WINDOW:
                seed = (args.seed, run.n_tables + len(under_way))
                under_way.append(pool.submit(_work, seed, run.weights))
            move, used, seconds, first, last = under_way.popleft().result()
            run.take(move, used, seconds)
            curve.writerow([run.n_tables, round(run.seconds), first, last])
            if run.n_tables % 50 == 0:
                run.save(args.folder)
                export(run, template, args.folder / "model")
                file.flush()
        run.save(args.folder)
        export(run, template, args.folder / "model")
        for task in under_way:
            task.cancel()


if __name__ == "__main__":
    main()
