"""Learning curves: accuracy after 10, 20, 50, 100 and 200 rows, beside scikit-learn.

    python examples/benchmarks/curves.py FOLDER --out curves.csv --plot curves.png

FOLDER is as ``tables.py`` says. Each draw takes rows of a set at random, stratified by
class, and tests on the others, of which at most 1,000 are drawn. Every method has its
defaults; the classical ones see numbers scaled and categories one-hot encoded. A run
that was stopped goes on from its CSV.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from tables import read_index, scaled_columns, with_categories

from liftlearn import LIFTClassifier

SETS = ["customers", "cmc", "vehicle", "led", "breast_cancer", "spambase"]
SIZES = [10, 20, 50, 100, 200]
MOST_TESTED = 1000
METHODS = ["liftlearn", "logistic regression", "random forest", "RBF-SVM"]
KEY = ["set", "size", "draw"]


def main() -> None:
    """Measure what the CSV has not yet; print the means and plot them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds index.json and the sets")
    parser.add_argument("--sets", nargs="+", default=SETS, help="names in index.json")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument(
        "--out", type=Path, required=True, help="a CSV, written as it goes"
    )
    parser.add_argument("--plot", type=Path, help="an image of the curves")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    index = read_index(options.folder)
    records = (
        pd.read_csv(options.out).to_dict("records") if options.out.exists() else []
    )
    done = {tuple(record[key] for key in KEY) for record in records}
    for draw in range(options.draws):
        for name in options.sets:
            for size in options.sizes:
                if (name, size, draw) in done:
                    continue
                key = dict(zip(KEY, (name, size, draw), strict=True))
                records += [
                    {**key, "method": method, "accuracy": accuracy}
                    for method, accuracy in measure(
                        options.folder, index[name], size, draw
                    )
                ]
                pd.DataFrame(records).to_csv(options.out, index=False)
        print("draw", draw, flush=True)
    shown = pd.DataFrame(records)
    shown = shown[shown["set"].isin(options.sets) & shown["size"].isin(options.sizes)]
    print("\n".join(table(shown)))
    if options.plot:
        plot(shown, options.plot)


def measure(
    folder: Path, facts: dict[str, Any], size: int, draw: int
) -> Iterator[tuple[str, float]]:
    """Yield the accuracy of each method."""
    rows = pd.read_csv(folder / facts["file"])
    places = [rows.columns.get_loc(column) for column in facts["categorical"]]
    rows = with_categories(rows, places)
    X, y = rows.iloc[:, :-1], rows.iloc[:, -1]
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=size, stratify=y, random_state=draw
    )
    X_test, y_test = X_test[:MOST_TESTED], y_test[:MOST_TESTED]
    methods = [
        LIFTClassifier(random_state=draw),
        make_pipeline(scaled_columns(), LogisticRegression(max_iter=2000)),
        make_pipeline(scaled_columns(), RandomForestClassifier(random_state=draw)),
        make_pipeline(scaled_columns(), SVC()),
    ]
    for name, method in zip(METHODS, methods, strict=True):
        yield name, float(method.fit(X, y).score(X_test, y_test))


def table(records: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of a table of means over the draws, a row for set and size."""
    means = records.pivot_table(
        index=["set", "size"], columns="method", values="accuracy", sort=False
    )[METHODS]
    overall = means.groupby("size").mean()
    yield f"| set | rows | {' | '.join(METHODS)} |"
    yield "|" + " --- |" * (2 + len(METHODS))
    every = [*means.iterrows(), *((("mean", n), row) for n, row in overall.iterrows())]
    for (name, size), row in every:
        yield f"| {name} | {size} | {' | '.join(f'{v:.3f}' for v in row)} |"


def plot(records: pd.DataFrame, path: Path) -> None:
    """Draw a panel for each set, and one for their mean."""
    from matplotlib.figure import Figure

    names = [*dict.fromkeys(records["set"]), "mean"]
    n_columns = int(np.ceil(len(names) / 2))
    figure = Figure(figsize=(3.2 * n_columns, 6), layout="constrained")
    axes = figure.subplots(2, n_columns, squeeze=False).ravel()
    for ax, name in zip(axes, names, strict=False):
        own = records if name == "mean" else records[records["set"] == name]
        means = own.groupby(["method", "size"])["accuracy"].mean()
        for method in METHODS:
            ax.plot(means[method].index, means[method], marker=".", label=method)
        ax.set(title=name, xscale="log", xlabel="rows", ylabel="accuracy")
    for ax in axes[len(names) :]:
        ax.axis("off")
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
