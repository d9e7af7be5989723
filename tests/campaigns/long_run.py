"""Many fits and many predicted rows in one process: nothing grows.

From the folder ``tests``, for 200 fits and 1,000,000 rows::

    python -m campaigns.long_run 200 1000000
"""

from __future__ import annotations

import argparse
import gc
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from liftlearn import FineTuner, LIFTClassifier, LIFTRegressor

_COLUMNS = ["part", "seconds each", "MB", "open files", "threads"]
_BATCH = 10_000


def state():
    """Return the process's memory in MB, its open files and its threads."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    n_files = len([*Path("/proc/self/fd").iterdir()])
    return pages * 4096 / 2**20, n_files, threading.active_count()


def fit(number):
    """Fit and use an estimator, another kind in turns; return it."""
    rng = np.random.RandomState(number)
    X = pd.DataFrame(rng.randn(60, 4).round(2), columns=list("abcd"))
    X["e"] = rng.choice(["red", "green", "blue"], 60)
    tuner = FineTuner(max_steps=5, n_models=1 + number % 2)
    if number % 3 == 0:
        return LIFTRegressor(finetuner=tuner, random_state=0).fit(X, X["a"]), X
    shots = {"n_shots": 0} if number % 3 == 1 else {}
    estimator = LIFTClassifier(finetuner=tuner, random_state=0, **shots)
    return estimator.fit(X, (X["a"] > 0).astype(int)), X


def rows_of(seed):
    """Return rows that no other seed has."""
    rng = np.random.RandomState(seed)
    return pd.DataFrame(rng.randn(_BATCH, 10).round(3)).add_prefix("x")


def run(n_fits, n_rows, n_parts=10):
    """Return a table of time, memory and handles, a row for each part of the run."""
    records = []
    for part in range(n_parts):
        start = time.perf_counter()
        numbers = range(part * n_fits // n_parts, (part + 1) * n_fits // n_parts)
        for number in numbers:
            estimator, X = fit(number)
            estimator.predict(X)
        each = (time.perf_counter() - start) / max(1, len(numbers))
        records.append((f"fits to {numbers.stop}", each, *state()))
    tuner = FineTuner(max_steps=5, n_models=1)
    estimator = LIFTClassifier(n_shots=0, finetuner=tuner, random_state=0)
    estimator.fit(rows_of(0)[:200], np.arange(200) % 2)
    predicted = 0
    for part in range(n_parts):
        start, before = time.perf_counter(), predicted
        while predicted < (part + 1) * n_rows // n_parts:
            rows = rows_of(predicted)[: n_rows // n_parts]
            predicted += len(estimator.predict_proba(rows))
        each = (time.perf_counter() - start) / max(1, predicted - before)
        records.append((f"rows to {predicted}", each, *state()))
    return pd.DataFrame(records, columns=_COLUMNS).set_index("part")


def growth(table):
    """Return what the second half of each phase has more than the first, as shares."""
    phases = table.groupby(table.index.str.split().str[0], sort=False)
    found = {}
    for phase, rows in phases:
        half = len(rows) // 2
        first, second = rows[1 : half + 1].median(), rows[half:].median()
        found[phase] = second / first - 1
    return pd.DataFrame(found).T


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("n_fits", type=int)
    parser.add_argument("n_rows", type=int)
    options = parser.parse_args()
    measured = run(options.n_fits, options.n_rows)
    print(measured.to_string(float_format="{:.5g}".format))
    grown = growth(measured)
    print("\nThe second half against the first\n" + grown.round(3).to_string())
    sys.exit(bool((grown[["MB", "open files", "threads"]] > 0.05).any(axis=None)))
