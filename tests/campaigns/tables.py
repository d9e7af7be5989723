"""Random tables: a valid prediction comes out, or an error that is meant for users.

Each table is fitted, predicted, saved, loaded and pickled, as classes or numbers and
as whole rows. From the folder ``tests``, for 5,000 tables of the seed 0::

    python -m campaigns.tables 5000 0
"""

import argparse
import datetime
import pickle
import tempfile
from collections import Counter
from decimal import Decimal

import numpy as np
import pandas as pd
import polars
import pyarrow
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from campaigns.outcomes import refusal, report, warnings_for_users
from liftlearn import FineTuner, LIFTClassifier, LIFTDensity, LIFTRegressor, load

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_WORDS = st.sampled_from(["red", "blue", "x0 99", "", " ", "1", "1.0", "nan", "</s>"])
_NUMBERS = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, -0.0, 1e-310, 1e300, -1e300, np.nan]),
)
_WHOLE = st.integers(-100, 100)
_DATES = st.datetimes(datetime.datetime(1800, 1, 1), datetime.datetime(2200, 1, 1))
_SECONDS = st.integers(-(10**9), 10**9)
_DECIMALS = _WHOLE.map(lambda n: Decimal(n) / 8)

# Lists of cells, by the name of what they are of.
_CELLS = {
    "numbers": _NUMBERS,
    "whole": _WHOLE,
    "booleans": st.booleans(),
    "words": _WORDS,
    "texts": _TEXTS,
    "dates": _DATES,
    "days": _DATES.map(lambda moment: moment.date()),
    "times": st.times(),
    "durations": _SECONDS.map(lambda s: datetime.timedelta(seconds=s)),
    "decimals": _DECIMALS,
    "nothing": st.none(),
    "lists": st.lists(_WHOLE, max_size=2),
    "bytes": st.binary(max_size=3),
    "complex": st.complex_numbers(max_magnitude=10),
    "mixed": st.one_of(_WHOLE, _WORDS, st.booleans(), _DATES, st.none()),
}
# What each may be held in.
_PANDAS = {
    "numbers": [
        "float64",
        "float32",
        "Float64",
        "object",
        "category",
        "double[pyarrow]",
    ],
    "whole": [
        *["int64", "int8", "float32", "Int64", "object", "category", "str"],
        *["int32[pyarrow]", "decimal128(9, 3)[pyarrow]", "Sparse[int]", "complex128"],
    ],
    "booleans": ["bool", "boolean", "object", "category", "bool[pyarrow]", "int64"],
    "words": ["object", "str", "string", "category", "string[pyarrow]"],
    "texts": ["object", "str", "category", "large_string[pyarrow]"],
    "dates": [
        *["datetime64[us]", "datetime64[s, UTC]", "object", "category", "period[D]"],
        *["timestamp[us][pyarrow]", "date32[pyarrow]"],
    ],
    "days": ["object", "date32[pyarrow]", "date64[pyarrow]", "datetime64[s]"],
    "times": ["object", "time64[us][pyarrow]"],
    "durations": ["timedelta64[us]", "object", "duration[us][pyarrow]"],
    "decimals": ["object", "float64"],
    "nothing": ["object", "float64", "null[pyarrow]"],
    "lists": ["object"],
    "bytes": ["object"],
    "complex": ["complex128", "object"],
    "mixed": ["object"],
}
# What libraries raise for cells that a type can't hold.
_UNHOLDABLE = (
    TypeError,
    ValueError,
    NotImplementedError,
    OverflowError,
    pyarrow.ArrowException,
    polars.exceptions.PolarsError,
)
_NAMES = st.one_of(
    st.sampled_from(
        ["a", "b", "age", "", "x0", "{a}", "y?", 0, 1, 2.5, None, ("a", 1)]
    ),
    _TEXTS,
)


@st.composite
def columns(draw, n_rows):
    """Draw a pandas column: many kinds of cells, each in one of its types."""
    kind = draw(st.sampled_from(sorted(_CELLS)))
    distinct = draw(st.lists(_CELLS[kind], min_size=1, max_size=6))
    places = draw(st.lists(st.integers(0, 5), min_size=n_rows, max_size=n_rows))
    cells = [distinct[place % len(distinct)] for place in places]
    dtype = draw(st.sampled_from(_PANDAS[kind]))
    n_missing = draw(st.sampled_from([0, 0, 0, 1, n_rows]))
    try:
        column = pd.Series(cells, dtype=dtype)
        if n_missing:
            column = column.where(np.arange(n_rows) >= n_missing)
    except _UNHOLDABLE:
        column = pd.Series(cells, dtype=object)  # which that type can't hold
    return column


@st.composite
def tables(draw, n_rows):
    """Draw a table: a dataframe of pandas, polars or Arrow, an array, or lists."""
    n_columns = draw(st.integers(1, 4))
    parts = [draw(columns(n_rows)) for _ in range(n_columns)]
    names = draw(st.lists(_NAMES, min_size=n_columns, max_size=n_columns))
    frame = pd.concat(parts, axis=1)
    frame.columns = pd.Index(names, tupleize_cols=False, dtype=object)
    holder = draw(
        st.sampled_from(["pandas", "pandas", "polars", "arrow", "array", "lists"])
    )
    try:
        if holder == "polars":
            return polars.from_pandas(
                frame.set_axis(map(str, range(n_columns)), axis=1)
            )
        if holder == "arrow":
            return pyarrow.Table.from_pandas(
                frame.set_axis(map(str, range(n_columns)), axis=1)
            )
    except _UNHOLDABLE:  # by these libraries
        return frame
    if holder == "array":
        return frame.to_numpy()
    return frame.to_numpy().tolist() if holder == "lists" else frame


@st.composite
def problems(draw):
    """Draw an estimator, a table, a target and weights, most of them usable."""
    n_rows = draw(st.integers(2, 12))
    X = draw(tables(n_rows))
    is_for_classes = draw(st.booleans())
    labels = [_WORDS, _WHOLE, st.booleans(), _TEXTS, _NUMBERS, st.none()]
    numbers = [_NUMBERS, _WHOLE, _WORDS, _DECIMALS, st.booleans()]
    cells = draw(st.sampled_from(labels if is_for_classes else numbers))
    known = draw(st.lists(cells, min_size=1, max_size=3))
    places = draw(st.lists(st.integers(0, 2), min_size=n_rows, max_size=n_rows))
    y = [known[place % len(known)] for place in places]
    y = draw(st.sampled_from([list, np.array, pd.Series]))(y)
    weights = st.one_of(
        st.floats(0, 5), st.sampled_from([0.0, 1e-310, 1e308, -1.0, np.nan])
    )
    weight = draw(
        st.one_of(
            st.none(), st.none(), st.lists(weights, min_size=n_rows, max_size=n_rows)
        )
    )
    estimator = LIFTClassifier if is_for_classes else LIFTRegressor
    tuner = FineTuner(max_steps=1, n_models=draw(st.sampled_from([1, 1, 2])))
    learns_or_reads = draw(st.sampled_from([{"finetuner": tuner}, {"n_shots": "all"}]))
    # Validation rows, or a second fit that goes on.
    also = draw(st.sampled_from(["", "", "validated", "twice"]))
    return estimator(**learns_or_reads, random_state=0), X, y, weight, also


def take(X, rows):
    """Return some rows of a table of any library."""
    if isinstance(X, pd.DataFrame):
        return X.iloc[rows]
    if isinstance(X, pyarrow.Table):
        return X.take(rows)
    return [X[row] for row in rows] if isinstance(X, list) else X[rows]


def outcome(estimator, X, y, weight, also):
    """Return what comes of a problem; raise AssertionError if it is no good."""
    n_rows = len(y)
    try:
        validation = {"X_val": X, "y_val": y} if also == "validated" else {}
        estimator.set_params(warm_start=also == "twice").fit(X, y, weight, **validation)
        if also == "twice":
            estimator.fit(X, y, weight)
        predicted = outputs(estimator, X)
    except (ValueError, TypeError) as error:
        return refusal(error)
    assert predicted.shape[0] == n_rows
    assert np.isfinite(predicted).all()
    # A row's prediction is its own.
    order = np.arange(n_rows)[::-1].tolist()
    np.testing.assert_allclose(
        outputs(estimator, take(X, order)), predicted[order], 1e-7
    )
    one = outputs(estimator, take(X, [0]))
    np.testing.assert_allclose(one, predicted[:1], 1e-7)
    with tempfile.TemporaryDirectory() as folder:
        estimator.save(folder)
        np.testing.assert_array_equal(outputs(load(folder), X), predicted)
    pickled = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(outputs(pickled, X), predicted)
    return "predicted"


def outcome_of_rows(X, y, weight):
    """Return what comes of a table of whole rows; raise if it is no good."""
    density = LIFTDensity(finetuner=FineTuner(max_steps=1), random_state=0)
    try:
        density.fit(X, y, weight)
    except (ValueError, TypeError) as error:
        return refusal(error)
    # The rows that were learnt are neither refused nor impossible.
    if weight is not None:
        shares = np.array(weight) / np.max(weight)  # which may be 0 by rounding
        learnt = np.flatnonzero(shares > 0).tolist()
        X, y = take(X, learnt), [list(y)[row] for row in learnt]
    scores = density.score_samples(X, y)
    assert np.isfinite(scores).all()
    drawn = density.sample(5, random_state=0)
    assert np.isfinite(density.score_samples(drawn)).all()
    filled = density.impute(X)
    assert len(filled) == len(y)
    drawn_again = density.sample(5, given=drawn.iloc[:, :1], random_state=0)
    assert drawn_again.iloc[:, 0].equals(drawn.iloc[:, 0])
    with tempfile.TemporaryDirectory() as folder:
        try:
            density.save(folder)
        except TypeError as error:  # levels of a type of their own
            return refusal(error)
        loaded = load(folder)
        np.testing.assert_array_equal(loaded.score_samples(X, y), scores)
        pd.testing.assert_frame_equal(loaded.sample(5, random_state=0), drawn)
    pickled = pickle.loads(pickle.dumps(density))
    np.testing.assert_array_equal(pickled.score_samples(X, y), scores)
    return "drawn"


def outputs(estimator, X):
    if isinstance(estimator, LIFTClassifier):
        proba = estimator.predict_proba(X)
        np.testing.assert_allclose(proba.sum(axis=1), 1, 1e-9)
        return proba
    return estimator.predict(X)[:, None]


def run(n_tables, random_state=0):
    """Try so many random tables; count what came of them."""
    found = Counter()

    @seed(random_state)
    @settings(
        max_examples=n_tables,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(problems())
    def try_one(problem):
        with warnings_for_users():
            found[outcome(*problem)] += 1
            _, X, y, weight, _ = problem
            found[outcome_of_rows(X, y, weight)] += 1

    try_one()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("n_tables", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    options = parser.parse_args()
    report(run(options.n_tables, options.seed), **vars(options))
