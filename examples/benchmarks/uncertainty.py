"""How sure predictions are: coverage, interval width, CRPS, calibration.

Each seed splits a set into 60 % of the rows to fit on, 20 % held out to conformalize
with, and 20 % to test on; of larger sets 2,000 rows are drawn first. Run

    python examples/benchmarks/uncertainty.py FOLDER --out uncertainty.csv

where FOLDER is as in ``tables.py``. Regression: the coverage and the width of
intervals, beside quantile gradient boosting and a Gaussian process, all of them
conformalised, and the CRPS, for all of them twice the mean pinball loss at 19
levels. Widths and CRPS are in standard deviations of the target. Classification: the
coverage and the size of sets; and log-loss and expected calibration error (of the
predicted class, 15 bins of equal width) of plain probabilities, beside logistic
regression, a random forest and gradient boosting.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mean_pinball_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from tables import read_index, scaled_columns, with_categories

from liftlearn import LIFTClassifier, LIFTRegressor

SETS = ["concrete", "ccpp", "insurance", "customers", "vehicle", "cmc"]
COVERAGES = [0.8, 0.9, 0.95]
LEVELS = np.linspace(0.05, 0.95, 19)
MOST_ROWS = 2000
N_BINS = 15

Quantiles = Callable[[pd.DataFrame, NDArray[np.float64]], NDArray[np.float64]]
Record = dict[str, Any]


def main() -> None:
    """Measure every set and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds index.json and the sets")
    parser.add_argument("--sets", nargs="+", default=SETS, help="names in index.json")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(20)))
    parser.add_argument("--model", help="a folder or a name; the embedded model else")
    parser.add_argument("--out", type=Path, help="a CSV, written as it goes")
    options = parser.parse_args()
    index = read_index(options.folder)
    records: list[Record] = []
    for name in options.sets:
        for seed in options.seeds:
            parts = split(options.folder, index[name], seed)
            is_class = index[name]["task"] == "classification"
            measure = measure_classes if is_class else measure_numbers
            for record in measure(parts, options.model, seed):
                records.append({"set": name, "seed": seed, **record})
            print(name, seed, flush=True)
            if options.out:
                pd.DataFrame(records).to_csv(options.out, index=False)
    print(tables(pd.DataFrame(records)))


def split(folder: Path, facts: dict[str, Any], seed: int) -> list[Any]:
    """Return rows to fit on, held out, and to test on, each a table and a target."""
    table = pd.read_csv(folder / facts["file"])
    places = [table.columns.get_loc(column) for column in facts["categorical"]]
    table = with_categories(table, places)
    if len(table) > MOST_ROWS:
        table = table.sample(MOST_ROWS, random_state=seed)
    is_class = facts["task"] == "classification"
    rest = table
    parts = []
    for share in (0.2, 0.25):
        rest, part = train_test_split(
            rest,
            test_size=share,
            stratify=rest.iloc[:, -1] if is_class else None,
            random_state=seed,
        )
        parts.append(part)
    test, held_out = parts
    return [(p.iloc[:, :-1], p.iloc[:, -1].to_numpy()) for p in (rest, held_out, test)]


def measure_numbers(parts: list[Any], model: str | None, seed: int) -> Iterator[Record]:
    """Yield the coverage, width and CRPS of each method."""
    (X, y), (X_held, y_held), (X_test, y_test) = parts
    unit = y.std()
    lift = LIFTRegressor(model, random_state=seed).fit(X, y)
    lift.conformalize(X_held, y_held)
    methods: dict[str, Quantiles] = {
        "liftlearn": lambda X, levels: lift.predict(X, quantiles=levels),
        "quantile boosting": boosting(X, y, seed),
        "Gaussian process": gaussian_process(X, y, seed),
    }
    for method, quantiles in methods.items():
        losses = [
            mean_pinball_loss(y_test, column, alpha=level)
            for column, level in zip(quantiles(X_test, LEVELS).T, LEVELS, strict=True)
        ]
        yield {"method": method, "measure": "CRPS", "value": 2 * np.mean(losses) / unit}
        for coverage in COVERAGES:
            if method == "liftlearn":
                ends = lift.predict_interval(X_test, coverage)
            else:
                ends = conformal_ends(quantiles, X_held, y_held, X_test, coverage)
            lower, upper = ends.T
            inside = (lower <= y_test) & (y_test <= upper)
            facts = {"method": method, "coverage": coverage}
            yield {**facts, "measure": "covered", "value": inside.mean()}
            yield {**facts, "measure": "width", "value": (upper - lower).mean() / unit}


def conformal_ends(
    quantiles: Quantiles,
    X_held: pd.DataFrame,
    y_held: NDArray[np.float64],
    X_test: pd.DataFrame,
    coverage: float,
) -> NDArray[np.float64]:
    """Return conformalised quantile regression's intervals (Romano et al., 2019)."""
    levels = np.array([(1 - coverage) / 2, (1 + coverage) / 2])
    lower, upper = quantiles(X_held, levels).T
    scores = np.sort(np.maximum(lower - y_held, y_held - upper))
    rank = int(np.ceil((len(scores) + 1) * coverage)) - 1
    wider = scores[min(rank, len(scores) - 1)]
    return quantiles(X_test, levels) + wider * np.array([-1.0, 1.0])


def boosting(X: pd.DataFrame, y: NDArray[np.float64], seed: int) -> Quantiles:
    """Return a function that fits a booster to each level when it is asked for."""
    fitted: dict[float, HistGradientBoostingRegressor] = {}

    def quantiles(
        table: pd.DataFrame, levels: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        for level in levels:
            if level not in fitted:
                booster = HistGradientBoostingRegressor(
                    loss="quantile", quantile=level, random_state=seed
                )
                fitted[level] = booster.fit(X, y)
        return np.column_stack([fitted[level].predict(table) for level in levels])

    return quantiles


def gaussian_process(X: pd.DataFrame, y: NDArray[np.float64], seed: int) -> Quantiles:
    """Return the quantiles of a Gaussian process with noise, fitted by its evidence."""
    columns = scaled_columns().fit(X)
    kernel = ConstantKernel() * Matern(length_scale=3.0, nu=2.5) + WhiteKernel()
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    process.fit(columns.transform(X), y)

    def quantiles(
        table: pd.DataFrame, levels: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        mean, std = process.predict(columns.transform(table), return_std=True)
        return mean[:, None] + std[:, None] * norm.ppf(levels)

    return quantiles


def measure_classes(parts: list[Any], model: str | None, seed: int) -> Iterator[Record]:
    """Yield coverage and size of sets; accuracy, log-loss and ECE of each method."""
    (X, y), (X_held, y_held), (X_test, y_test) = parts
    lift = LIFTClassifier(model, random_state=seed).fit(X, y)
    methods = {
        "liftlearn": lift,
        "logistic regression": make_pipeline(
            scaled_columns(), LogisticRegression(max_iter=1000)
        ),
        "random forest": make_pipeline(
            scaled_columns(), RandomForestClassifier(random_state=seed)
        ),
        "gradient boosting": HistGradientBoostingClassifier(random_state=seed),
    }
    for method, classifier in methods.items():
        if method != "liftlearn":
            classifier.fit(X, y)
        proba = classifier.predict_proba(X_test)
        classes = classifier.classes_
        right = classes[proba.argmax(axis=1)] == y_test
        facts = {
            "accuracy": right.mean(),
            "log-loss": log_loss(y_test, proba, labels=classes),
            "ECE": calibration_error(proba.max(axis=1), right),
        }
        for measure, value in facts.items():
            yield {"method": method, "measure": measure, "value": value}
    lift.conformalize(X_held, y_held)
    own = np.searchsorted(lift.classes_, y_test)
    for coverage in COVERAGES:
        member = lift.predict_set(X_test, coverage)
        covered = member[np.arange(len(own)), own].mean()
        facts = {"method": "liftlearn", "coverage": coverage}
        yield {**facts, "measure": "covered", "value": covered}
        yield {**facts, "measure": "classes", "value": member.sum(axis=1).mean()}


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> float:
    """Return the mean distance of confidence and accuracy over bins of confidence.

    >>> calibration_error(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]))
    0.433...
    """
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = [
        abs((confidence[bins == b] - right[bins == b]).sum()) for b in np.unique(bins)
    ]
    return float(np.sum(gaps) / len(right))


def tables(records: pd.DataFrame) -> str:
    """Return a table for each measure: the means over the seeds, sets by columns."""
    texts = []
    for measure, rows in records.groupby("measure", sort=False):
        keys = ["method"]
        if measure in ("covered", "width", "classes"):
            keys.append("coverage")
        table = rows.pivot_table(
            index=keys, columns="set", values="value", sort=False
        ).reset_index()
        heads = [*table.columns]
        lines = [f"{measure}:", "", f"| {' | '.join(heads)} |"]
        lines.append("|" + " --- |" * len(heads))
        for row in table.itertuples(index=False):
            cells = [c if isinstance(c, str) else f"{c:.3f}" for c in row]
            lines.append(f"| {' | '.join(cells)} |")
        texts.append("\n".join(lines))
    return "\n\n".join(texts)


if __name__ == "__main__":
    main()
