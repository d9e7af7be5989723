"""Which way to write numbers is learnt best: those of the cells, and the targets.

Prints, for each table, the error of an estimator that differs from the default in one
way of writing alone. Run

    python examples/benchmarks/formats.py FOLDER --only targets cells

where FOLDER is that of ``tables.py`` beside this file. Only rows to learn from are
used: a quarter of them, another one for each seed, is predicted. Synthetic tables are
drawn beside them: LIFT's functions of one and two columns (the mean over the six), two
targets with heavy tails, and rows that are noisy curves with a hill or a valley, each
at a level and of a size of its own.

Targets: relative absolute error, then the CRPS over the mean absolute deviation from
the median. Cells: relative absolute error for numbers, and one minus accuracy for
classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import RandomState
from sklearn.metrics import zero_one_loss
from sklearn.model_selection import train_test_split
from tables import FUNCTIONS, function_split, read_index, read_split

from liftlearn import LIFTClassifier, LIFTRegressor, NumberDecoder, RowEncoder

MOST_ROWS = 1500
TARGETS = {
    "even": {"grid": "scaled", "spacing": "uniform"},
    "mixed": {"grid": "scaled", "spacing": "mixed"},
    "quantile": {"grid": "scaled", "spacing": "quantile"},
    "auto": {"grid": "scaled"},
    "plain": {"grid": "plain"},
}
CELLS = {
    "two digits, z-score": {"spacing": "zscore"},
    "two digits, quantile": {"spacing": "quantile"},
    "two digits, mixed": {"spacing": "mixed"},
    "four digits, mixed": {"digits": 4},
    "plain, three digits": {"numbers": "plain", "digits": 3},
    "two digits, of the row": {"numbers": "row"},
}
TABLES = ["insurance", "concrete", "servo", "ccpp", "vehicle", "customers", "wine"]
TABLES += [
    "functions of one column",
    "of two columns",
    "exp(1.5 s)",
    "counts",
    "curves",
]
Parts = tuple[pd.DataFrame, pd.DataFrame, Any, Any]


def main() -> None:
    """Print a table for the targets and one for the cells."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds index.json and the sets")
    parser.add_argument("--only", nargs="+", default=["targets", "cells"])
    parser.add_argument("--tables", nargs="+", default=TABLES, help="sets, or drawn")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--model", help="a folder or a name; the embedded model else")
    options = parser.parse_args()
    index = read_index(options.folder)
    every: dict[str, list[Callable[[int], Parts]]] = {
        name: [partial(real, options.folder, name, facts)]
        for name, facts in index.items()
    }
    for n_columns, title in ((1, "functions of one column"), (2, "of two columns")):
        every[title] = [partial(function, name, n_columns) for name in FUNCTIONS]
    every |= {"exp(1.5 s)": [heavy_tail], "counts": [counts], "curves": [curves]}
    tables = {name: every[name] for name in options.tables}
    if "targets" in options.only:
        compare_targets(tables, options)
    if "cells" in options.only:
        compare_cells(tables, options)


def compare_targets(
    tables: dict[str, list[Callable[[int], Parts]]], options: argparse.Namespace
) -> None:
    """Print the error and the CRPS of each grid."""
    print("| table | " + " | ".join(TARGETS) + " |\n|" + " --- |" * (1 + len(TARGETS)))
    for name, drawn in tables.items():
        cells = []
        for grid in TARGETS.values():
            found = []
            for take, seed in product(drawn, options.seeds):
                X, X_new, y, y_new = take(seed)
                if not is_number(y):
                    continue
                regressor = LIFTRegressor(
                    options.model, decoder=NumberDecoder(**grid), random_state=seed
                )
                told = regressor.fit(X, y).predict_distribution(X_new)
                deviation = np.abs(y_new - np.median(y_new)).mean()
                crps = told.crps(y_new).mean() / deviation
                found.append((rae(y_new, told.median), crps))
            if found:
                cells.append("{:.3f} {:.3f}".format(*np.mean(found, axis=0)))
        if cells:
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def compare_cells(
    tables: dict[str, list[Callable[[int], Parts]]], options: argparse.Namespace
) -> None:
    """Print the error of each way to write a table's numbers."""
    print("\n| table | " + " | ".join(CELLS) + " |\n|" + " --- |" * (1 + len(CELLS)))
    for name, drawn in tables.items():
        cells = []
        for wording in CELLS.values():
            errors = []
            for take, seed in product(drawn, options.seeds):
                X, X_new, y, y_new = take(seed)
                estimator, error = LIFTClassifier, zero_one_loss
                if is_number(y):
                    estimator, error = LIFTRegressor, rae
                fitted = estimator(
                    options.model, encoder=RowEncoder(**wording), random_state=seed
                ).fit(X, y)
                errors.append(error(y_new, fitted.predict(X_new)))
            cells.append(f"{np.mean(errors):.3f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def is_number(y: Any) -> bool:
    """Return whether a target is to be regressed."""
    return bool(np.asarray(y).dtype.kind == "f")


def rae(y: Any, predicted: Any) -> float:
    """Return the relative absolute error."""
    return float(np.abs(predicted - y).sum() / np.abs(y - np.mean(y)).sum())


def real(folder: Path, name: str, facts: dict[str, Any], seed: int) -> Parts:
    """Return a cut of a set's rows to learn from."""
    split = read_split(folder, name, facts, seed)
    X, y = split.X_train, np.asarray(split.y_train)
    if not split.is_class:
        y = y.astype(float)
    if len(X) > MOST_ROWS:
        X, _, y, _ = train_test_split(X, y, train_size=MOST_ROWS, random_state=seed)
    X, X_new, y, y_new = train_test_split(
        X, y, test_size=0.25, stratify=y if split.is_class else None, random_state=seed
    )
    return X, X_new, y, y_new


def function(name: str, n_columns: int, seed: int) -> Parts:
    """Return a noisy function to learn and its true values to predict."""
    rng = RandomState(1000 + seed)  # not the rows that functions.py tests on
    rows = function_split(name, n_columns, rng)
    return rows.X_train, rows.X_test, rows.y_train.to_numpy(), rows.y_test.to_numpy()


def score(seed: int) -> tuple[RandomState, pd.DataFrame, Any]:
    """Return four columns, and a noisy function of three with deviation 1."""
    rng = RandomState(seed)
    x = rng.normal(size=(500, 4))
    s = x[:, 0] + 0.7 * np.tanh(2 * x[:, 1]) + 0.5 * x[:, 2] * x[:, 0]
    s += 0.3 * rng.normal(size=500)
    return rng, pd.DataFrame(x, columns=list("abcd")), s / s.std()


def heavy_tail(seed: int) -> Parts:
    """Return a target that ranges over four orders of magnitude."""
    _, X, s = score(seed)
    y = np.exp(1.5 * s)
    return X[:300], X[300:], y[:300], y[300:]


def counts(seed: int) -> Parts:
    """Return a target of counts, few of them large."""
    rng, X, s = score(seed)
    y = rng.poisson(np.exp(1 + s)).astype(float)
    return X[:300], X[300:], y[:300], y[300:]


def curves(seed: int) -> Parts:
    """Return rows of 40 places with a bump up or down."""
    rng = RandomState(seed)
    places, centre = np.arange(40), rng.uniform(8, 32, (600, 1))
    is_hill = rng.randint(2, size=600)
    bump = np.exp(-(((places - centre) / 3) ** 2) / 2) * (2 * is_hill[:, None] - 1)
    size = 10 ** rng.uniform(0, 4, (600, 1))
    level = size * rng.uniform(2, 5, (600, 1))
    X = pd.DataFrame(level + size * (bump + 0.1 * rng.normal(size=(600, 40))))
    X = X.add_prefix("place")
    y = np.array(["valley", "hill"])[is_hill]
    return X[:450], X[450:], y[:450], y[450:]


if __name__ == "__main__":
    main()
