"""Relative absolute error on LIFT's synthetic functions, beside classical regressors.

Six functions of one or two columns, learnt from 200 rows with a noise of a tenth of
their standard deviation; RAE = sum |predicted - y| / sum |mean(y) - y| on 100 new rows
without noise, none left out. Run

    python examples/benchmarks/functions.py
    python examples/benchmarks/functions.py --outliers
    python examples/benchmarks/functions.py --integers --functions cosine

``--outliers`` adds 2 % of rows whose target is the size of a normal number of standard
deviation 20. ``--integers`` draws whole numbers from -150 to 150; liftlearn writes them
digit by digit, and trains for 2,000 steps. Published figures are LIFT/GPT-3's means of
three runs, filtered by its authors for outliers: Dinh, Zeng et al., "LIFT", NeurIPS
2022, their repository's ``regression/accuracy`` and ``regression/robustness``.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import RandomState
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import FUNCTIONS, function_split

from liftlearn import FineTuner, LIFTRegressor, RowEncoder

# LIFT/GPT-3 by function and count of columns, then with 2 % outliers.
PAPER = {
    ("linear", 1): 0.064, ("quadratic", 1): 0.132, ("exponential", 1): 0.093,
    ("cosine", 1): 0.436, ("l1norm", 1): 0.089, ("piecewise", 1): 0.167,
    ("linear", 2): 0.189, ("quadratic", 2): 0.217, ("exponential", 2): 0.199,
    ("cosine", 2): 0.654, ("l1norm", 2): 0.195, ("piecewise", 2): 0.405,
}  # fmt: skip
PAPER_OUTLIERS = {
    "linear": 0.068, "quadratic": 0.115, "exponential": 0.098, "cosine": 0.489,
    "l1norm": 0.098, "piecewise": 0.161,
}  # fmt: skip
PAPER_INTEGERS = {"exponential": 1.150, "cosine": 0.064}


def main() -> None:
    """Measure every function and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--functions", nargs="+", default=list(FUNCTIONS))
    parser.add_argument("--columns", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--outliers", action="store_true")
    parser.add_argument("--integers", action="store_true")
    parser.add_argument("--model", help="a folder or a name; the embedded model else")
    options = parser.parse_args()
    columns = [1] if options.outliers or options.integers else options.columns
    methods = [*classical(0), "liftlearn", "LIFT/GPT-3"]
    print(f"| function | columns | {' | '.join(methods)} |")
    print("|" + " --- |" * (2 + len(methods)))
    for n_columns in columns:
        for name in options.functions:
            errors = np.mean(
                [one_run(name, n_columns, seed, options) for seed in options.seeds],
                axis=0,
            )
            published = PAPER.get((name, n_columns))
            if options.outliers:
                published = PAPER_OUTLIERS.get(name)
            if options.integers:
                published = PAPER_INTEGERS.get(name)
            cells = [f"{error:.3f}" for error in errors]
            cells.append("-" if published is None else f"{published:.3f}")
            print(f"| {name} | {n_columns} | {' | '.join(cells)} |", flush=True)


def one_run(
    name: str, n_columns: int, seed: int, options: argparse.Namespace
) -> list[float]:
    """Return the error of each method."""
    rng = RandomState(seed)
    rows = function_split(name, n_columns, rng, integers=options.integers)
    X, y = rows.X_train, rows.y_train.to_numpy()
    if options.outliers:
        n_outliers = len(X) // 50
        x = rng.uniform(-10, 10, (n_outliers, n_columns))
        X = pd.concat([X, pd.DataFrame(x, columns=X.columns)], ignore_index=True)
        y = np.concatenate([y, np.abs(rng.normal(0, 20, n_outliers))])
    parts = digit_by_digit() if options.integers else {}
    lift = LIFTRegressor(options.model, **parts, random_state=seed)
    y_test = rows.y_test.to_numpy()
    spread = np.abs(y_test.mean() - y_test).sum()
    return [
        float(np.abs(model.fit(X, y).predict(rows.X_test) - y_test).sum() / spread)
        for model in [*classical(seed).values(), lift]
    ]


def digit_by_digit() -> dict[str, Any]:
    """Return parts that write and learn the digits of whole numbers.

    Jitter would blur what neighbours don't share. A rule of digits is found long after
    the rows are overfitted, if the weights are kept small (A. Power et al.,
    "Grokking", 2022, arXiv 2201.02177).
    """
    return {
        "encoder": RowEncoder(
            template="x={x1} y=", numbers="plain", digits=4, jitter=0
        ),
        "finetuner": FineTuner(
            max_steps=2000,
            n_epochs=2000,
            learning_rate=3e-3,
            weight_decay=2.0,
            n_models=3,
            validation_fraction=0.05,
        ),
    }


def classical(seed: int) -> dict[str, Any]:
    """Return the regressors to compare with."""
    kernel = ConstantKernel() * RBF() + WhiteKernel()
    return {
        "Gaussian process": make_pipeline(
            StandardScaler(),
            GaussianProcessRegressor(
                kernel, normalize_y=True, n_restarts_optimizer=3, random_state=seed
            ),
        ),
        "gradient boosting": GradientBoostingRegressor(random_state=seed),
        "random forest": RandomForestRegressor(random_state=seed),
    }


if __name__ == "__main__":
    main()
