"""Whole rows: how real drawn ones are, and how well missing cells are filled in.

Run

    python examples/benchmarks/rows.py FOLDER --out rows.csv

where FOLDER is as in ``tables.py``. Each seed holds out a fifth of the rows.

- *Draws*: as many rows as there are training rows are drawn. A random forest learns
  from these and one from the real rows; both are tested on the held-out ones (accuracy,
  or RAE for numbers). Another forest tells real from drawn rows: its AUC in five folds.
  Last, the greatest Kolmogorov-Smirnov distance of a column of numbers, of 4,000 drawn
  rows: as many as there are real ones would differ by chance alone.
- *Missing cells*: a fifth of all cells is removed at random, and filled in again by
  liftlearn, ``KNNImputer``, ``IterativeImputer`` and the median or most frequent level.
  The error of numbers is the mean absolute one in standard deviations, that of levels
  the share of wrong ones; its mean over the columns is given. If 19 draws are as good
  as the truth, the least and the greatest of them hold 90 % of the true numbers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import RandomState
from scipy.stats import ks_2samp
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - scikit-learn wants it
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.preprocessing import StandardScaler
from tables import read_index

from liftlearn import LIFTDensity

SETS = ["iris", "wine", "customers", "cmc", "insurance"]
N_TREES, N_DRAWS, N_MANY, MISSING = 300, 19, 4000, 0.2

Record = dict[str, Any]


def main() -> None:
    """Measure every set and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds index.json and the sets")
    parser.add_argument("--sets", nargs="+", default=SETS, help="names in index.json")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", choices=["draws", "cells"], help="one of the parts")
    parser.add_argument("--model", help="a folder or a name; the embedded model else")
    parser.add_argument("--out", type=Path, help="a CSV, written as it goes")
    options = parser.parse_args()
    index = read_index(options.folder)
    parts = {"draws": draws, "cells": cells}
    for part in [options.only] if options.only else list(parts):
        records: list[Record] = []
        for name in options.sets:
            table = pd.read_csv(options.folder / index[name]["file"])
            for column in index[name].get("categorical", []):
                table[column] = table[column].astype(str)
            is_class = index[name]["task"] == "classification"
            if is_class:
                table.iloc[:, -1] = table.iloc[:, -1].astype(str)
            for seed in options.seeds:
                record = parts[part](table, is_class, options.model, seed)
                records.append({"part": part, "set": name, "seed": seed, **record})
                print(records[-1], flush=True)
                if options.out:
                    out = options.out.with_stem(f"{options.out.stem}_{part}")
                    pd.DataFrame(records).to_csv(out, index=False)
        means = pd.DataFrame(records).drop(columns=["part", "seed"])
        print(means.groupby("set", sort=False).mean().round(3).to_string())


def draws(table: pd.DataFrame, is_class: bool, model: str | None, seed: int) -> Record:
    """Return how real drawn rows are."""
    target = table.columns[-1]
    train, test = train_test_split(
        table,
        test_size=0.2,
        random_state=seed,
        stratify=table[target] if is_class else None,
    )
    started = time.perf_counter()
    density = LIFTDensity(model, random_state=seed)
    density.fit(train.drop(columns=target), train[target])
    fitted = time.perf_counter()
    drawn = density.sample(len(train), random_state=seed)
    seconds = {
        "fit_seconds": fitted - started,
        "draw_seconds": time.perf_counter() - fitted,
    }
    many = density.sample(N_MANY, random_state=seed)
    distances = [ks_2samp(train[n], many[n]).statistic for n in numbers_of(train)]
    return {
        "real": usefulness(train, test, is_class, seed),
        "drawn": usefulness(drawn, test, is_class, seed),
        "auc": told_apart(train, drawn, seed),
        "ks": max(distances, default=0.0),
        **seconds,
    }


def usefulness(
    train: pd.DataFrame, test: pd.DataFrame, is_class: bool, seed: int
) -> float:
    """Return how well a forest does on test rows: accuracy, or RAE."""
    coded = as_numbers(pd.concat([train, test]))
    X, X_test = coded[: len(train), :-1], coded[len(train) :, :-1]
    y, y_test = train.iloc[:, -1], test.iloc[:, -1]
    if is_class:
        forest = RandomForestClassifier(N_TREES, random_state=seed)
        predicted = forest.fit(X, y.astype(str)).predict(X_test)
        return float((predicted == y_test.astype(str)).mean())
    forest = RandomForestRegressor(N_TREES, random_state=seed).fit(X, y)
    error = np.abs(forest.predict(X_test) - y_test)
    return float(error.sum() / np.abs(y_test - y_test.mean()).sum())


def told_apart(real: pd.DataFrame, drawn: pd.DataFrame, seed: int) -> float:
    """Return the AUC of a forest that tells drawn rows from real ones."""
    X = as_numbers(pd.concat([real, drawn]))
    is_drawn = np.repeat([0, 1], [len(real), len(drawn)])
    forest = RandomForestClassifier(N_TREES, random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    share = cross_val_predict(forest, X, is_drawn, cv=folds, method="predict_proba")
    return float(roc_auc_score(is_drawn, share[:, 1]))


def cells(table: pd.DataFrame, is_class: bool, model: str | None, seed: int) -> Record:
    """Return the errors of cells that were filled in."""
    del is_class
    gone = RandomState(seed).uniform(size=table.shape) < MISSING
    gone[gone.all(axis=1), 0] = False
    holed = table.mask(gone)
    started = time.perf_counter()
    density = LIFTDensity(model, random_state=seed).fit(holed)
    filled = {"liftlearn": density.impute(holed)}
    seconds = time.perf_counter() - started
    imputers = {
        "KNNImputer": KNNImputer(),
        "IterativeImputer": IterativeImputer(random_state=seed, max_iter=20),
        "simple": None,
    }
    record: Record = {}
    for name, imputer in imputers.items():
        filled[name] = by_rival(holed, imputer)
    for name, guess in filled.items():
        record[name] = np.mean([error(table, guess, gone, i) for i in columns_of(gone)])
    drawn = density.impute(holed, n_draws=N_DRAWS, random_state=seed)
    record["coverage"] = coverage(table, drawn, gone)
    return {**record, "seconds": seconds}


def by_rival(table: pd.DataFrame, imputer: Any) -> pd.DataFrame:
    """Return a table filled in by an imputer of numbers; levels are codes to it."""
    coded = as_numbers(table)
    if imputer is None:
        names = numbers_of(table)
        whole = table.copy()
        for name in table:
            strategy = "median" if name in names else "most_frequent"
            column = table[[name]].to_numpy(object)
            simple = SimpleImputer(strategy=strategy, missing_values=np.nan)
            column = column.astype(float) if name in names else column
            whole[name] = simple.fit_transform(column)[:, 0]
        return whole
    scaler = StandardScaler().fit(coded)
    numbers = scaler.inverse_transform(imputer.fit_transform(scaler.transform(coded)))
    whole = table.copy()
    for i, name in enumerate(table):
        column = numbers[:, i]
        if name not in numbers_of(table):
            levels = pd.Categorical(table[name]).categories
            code = np.round(column).clip(0, len(levels) - 1).astype(int)
            whole[name] = levels[code]
        else:
            whole[name] = column
    return whole


def error(table: pd.DataFrame, guess: pd.DataFrame, gone: Any, i: int) -> float:
    """Return the error of a column's cells that were removed."""
    rows = gone[:, i]
    name = table.columns[i]
    true, filled = table[name][rows], guess[name][rows]
    if name in numbers_of(table):
        miss = np.abs(filled.astype(float) - true)
        return float(miss.mean() / table[name].std())
    return float((filled.astype(str).to_numpy() != true.astype(str).to_numpy()).mean())


def coverage(table: pd.DataFrame, drawn: list[pd.DataFrame], gone: Any) -> float:
    """Return the share of removed numbers between the least and greatest draw."""
    inside = []
    for i, name in enumerate(table):
        if name in numbers_of(table):
            rows = gone[:, i]
            values = np.stack([each[name].to_numpy(float)[rows] for each in drawn])
            true = table[name].to_numpy(float)[rows]
            inside += list((values.min(0) <= true) & (true <= values.max(0)))
    return float(np.mean(inside)) if inside else np.nan


def columns_of(gone: Any) -> list[int]:
    """Return the columns of which cells were removed."""
    return list(np.flatnonzero(gone.any(axis=0)))


def numbers_of(table: pd.DataFrame) -> list[str]:
    """Return the names of the columns of numbers."""
    return [n for n in table if pd.api.types.is_numeric_dtype(table[n])]


def as_numbers(table: pd.DataFrame) -> Any:
    """Return a table's numbers, and its levels as codes; missing ones are nan."""
    coded = table.copy()
    for name in table:
        if not pd.api.types.is_numeric_dtype(table[name]):
            codes = pd.Categorical(table[name]).codes.astype(float)
            coded[name] = np.where(codes < 0, np.nan, codes)
    return coded.to_numpy(float)


if __name__ == "__main__":
    main()
