"""Accuracy and relative absolute error on LIFT's tables, beside the paper's.

Prints, for each set, the score of an estimator with its defaults, that of the same
architecture started from random weights, and the published figures of LIFT. Run

    python examples/benchmarks/accuracy.py FOLDER

where FOLDER holds

- ``index.json``: for each set its ``file`` (a CSV with a header whose last column is
  the target), its ``task`` (``"classification"`` or ``"regression"``), and the names of
  its ``categorical`` columns;
- the files;
- ``lift_splits/<set>_train_full.csv`` and ``lift_splits/<set>_test.csv``: the paper's
  own splits of the regression sets, with a row number as first column.

Classification: accuracy, on stratified splits of 80 % and 20 %, one for each seed,
which is the estimator's ``random_state``, too. Regression: relative absolute error,
RAE = sum |predicted - y| / sum |mean(y) - y| over the test rows, on the paper's split
(on one of 80 % and 20 % for each seed where it has none), with no row left out; the
seed is the ``random_state``. Seconds are those of one fit and the prediction of its
test rows, the median over the seeds.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from transformers import AutoModelForCausalLM

from liftlearn import LanguageModel, LIFTClassifier, LIFTRegressor

SETS = ["iris", "wine", "customers", "vehicle", "cmc", "led", "tae"]
SETS += ["insurance", "servo", "student"]

# LIFT with GPT-J and with GPT-3, means of the authors' three runs, from Dinh, Zeng et
# al., "LIFT: Language-Interfaced Fine-Tuning for Non-Language Machine Learning Tasks",
# NeurIPS 2022. Accuracy: the authors' table of OpenML sets, as on their project page.
# RAE: their repository's regression/realdata/play.ipynb, all training rows, the better
# of prompts with and without column names; the authors leave out test rows with an
# error of more than five times the root mean square error, we do not.
PAPER = {
    "customers": (0.8523, 0.8485),
    "pollution": (0.6389, 0.6389),
    "spambase": (0.9403, 0.9490),
    "hill_valley": (1.0000, 0.9973),
    "iris": (0.9667, 0.9700),
    "tae": (0.6129, 0.6559),
    "cmc": (0.4983, 0.5774),
    "wine": (0.9352, 0.9259),
    "vehicle": (0.6431, 0.7020),
    "led": (0.6533, 0.6933),
    "optdigits": (0.9822, 0.9899),
    "mfeat_factors": (0.9417, 0.9308),
    "plants_margin": (0.5023, 0.5937),
    "plants_texture": (0.5032, 0.6750),
    "ccpp": (0.24, 0.18),
    "servo": (1.17, 0.38),
    "insurance": (0.27, 0.16),
    "student": (0.37, 0.27),
}


@dataclass(frozen=True)
class Result:
    """One fit and its score."""

    set: str
    start: str
    seed: int
    metric: str
    score: float
    seconds: float


@dataclass(frozen=True)
class Split:
    """The rows to learn from and those to predict."""

    is_class: bool
    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series


def main() -> None:
    """Measure every set with both starts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds index.json and the sets")
    parser.add_argument("--sets", nargs="+", default=SETS, help="names in index.json")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--model", help="a folder or a name; the embedded model else")
    parser.add_argument(
        "--out", type=Path, help="a CSV of every fit, written as it goes"
    )
    options = parser.parse_args()
    index = json.loads((options.folder / "index.json").read_text(encoding="utf-8"))
    unknown = [name for name in options.sets if name not in index]
    if unknown:
        parser.error(f"index.json has no {unknown!r}; it has {list(index)!r}.")

    results: list[Result] = []
    with tempfile.TemporaryDirectory() as random_weights:
        for name in options.sets:
            for start in ("pretrained", "random"):
                fits = []
                for seed in options.seeds:
                    model = options.model
                    if start == "random":
                        model = save_random(options.model, seed, Path(random_weights))
                    split = read_split(options.folder, name, index[name], seed)
                    fits.append(Result(name, start, seed, *measure(split, model, seed)))
                results += fits
                print(line(fits), flush=True)
                if options.out:
                    write_csv(results, options.out)
    print("", *markdown(results), sep="\n")


def save_random(model: str | None, seed: int, folder: Path) -> str:
    """Return a folder with the model's architecture, tokenizer and fresh weights."""
    target = folder / str(seed)
    if not target.exists():
        lm = LanguageModel.load(model)
        torch.manual_seed(seed)
        fresh = AutoModelForCausalLM.from_config(
            copy.deepcopy(lm.model.config), dtype=torch.float32
        )
        LanguageModel(fresh, lm.tokenizer).save(target)
    return str(target)


def read_split(folder: Path, name: str, facts: dict[str, Any], seed: int) -> Split:
    """Return the paper's split where there is one, and a random one else."""
    is_class = facts["task"] == "classification"
    table = pd.read_csv(folder / facts["file"])
    # By place: the paper's files have the same columns by other names.
    places = [table.columns.get_loc(column) for column in facts["categorical"]]
    paper = folder / "lift_splits" / f"{name}_train_full.csv"
    if not is_class and paper.exists():
        test_file = paper.with_name(f"{name}_test.csv")
        train, test = (
            with_categories(pd.read_csv(file, index_col=0), places)
            for file in (paper, test_file)
        )
    else:
        train, test = train_test_split(
            with_categories(table, places),
            test_size=0.2,
            stratify=table.iloc[:, -1] if is_class else None,
            random_state=seed,
        )
    X_train, X_test = train.iloc[:, :-1], test.iloc[:, :-1]
    return Split(is_class, X_train, X_test, train.iloc[:, -1], test.iloc[:, -1])


def with_categories(table: pd.DataFrame, places: list[int]) -> pd.DataFrame:
    """Return the table with the columns at these places as categories."""
    return table.astype({table.columns[place]: "category" for place in places})


def measure(split: Split, model: str | None, seed: int) -> tuple[str, float, float]:
    """Fit a plain estimator and predict; return the metric, the score, the seconds."""
    estimator = LIFTClassifier if split.is_class else LIFTRegressor
    begin = perf_counter()
    fitted = estimator(model, random_state=seed).fit(split.X_train, split.y_train)
    predicted = fitted.predict(split.X_test)
    seconds = perf_counter() - begin
    truth = split.y_test.to_numpy()
    if split.is_class:
        return "accuracy", float(np.mean(predicted == truth)), seconds
    error = np.abs(predicted - truth).sum() / np.abs(truth.mean() - truth).sum()
    return "RAE", float(error), seconds


def line(fits: list[Result]) -> str:
    """Return the scores of one set and start as a line of text."""
    each = " ".join(f"{fit.score:.3f}" for fit in fits)
    return (
        f"{fits[0].set:15} {fits[0].start:10} {fits[0].metric:8} "
        f"{mean(fit.score for fit in fits):.3f} ({each}) "
        f"{median(fit.seconds for fit in fits):6.1f} s"
    )


def markdown(results: list[Result]) -> Iterator[str]:
    """Yield the lines of the table, one for each set."""
    heads = ["set", "score", "liftlearn", "random weights"]
    heads += ["LIFT/GPT-J", "LIFT/GPT-3", "seconds"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for name in dict.fromkeys(result.set for result in results):
        own = [result for result in results if result.set == name]
        pretrained, random = (
            [result for result in own if result.start == start]
            for start in ("pretrained", "random")
        )
        paper = [f"{score:.3f}" for score in PAPER.get(name, ())] or ["-", "-"]
        cells = [
            name,
            own[0].metric,
            f"{mean(fit.score for fit in pretrained):.3f}",
            f"{mean(fit.score for fit in random):.3f}",
            *paper,
            f"{median(fit.seconds for fit in pretrained):.1f}",
        ]
        yield f"| {' | '.join(cells)} |"


def write_csv(results: list[Result], path: Path) -> None:
    """Write every fit so far."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Result)])
        writer.writeheader()
        writer.writerows(asdict(result) for result in results)


if __name__ == "__main__":
    main()
