import cProfile
import datetime as dt
import re
import warnings
from collections import deque
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from liftlearn import FineTuner, LIFTClassifier, RowEncoder, load
from liftlearn._tables import check_table, distinct_names
from liftlearn._validation import check_sample_weight, check_target

by_wording = pytest.mark.parametrize(
    "wording",
    [
        {},
        {"columns": "index", "numbers": "scaled"},
        {"numbers": "row"},
    ],
    ids=["names", "index", "row"],
)


@pytest.mark.parametrize(
    "cells",
    [
        [1.0, -np.inf],
        pd.array([1.0, np.inf], dtype="Float64"),
        np.array([1.0, np.inf], dtype=np.float32),
        np.array(["a", np.inf], dtype=object),
        np.array([1, 10**400], dtype=object),
        np.array([Decimal(1), Decimal("Infinity")], dtype=object),
    ],
    ids=["float", "nullable", "float32", "object", "integer", "decimal"],
)
def test_an_infinite_cell_is_refused_by_its_column_and_row(cells):
    table = pd.DataFrame({"size": [1, 2], "pay": cells}, index=["first", "second"])

    with pytest.raises(ValueError, match=r"infinity.*column 'pay', row 1"):
        RowEncoder().fit(table)


def test_an_infinite_cell_is_refused_in_transform_too():
    encoder = RowEncoder().fit(pd.DataFrame({"pay": [1.0, 2.0]}))

    with pytest.raises(ValueError, match="column 'pay', row 0"):
        encoder.transform(pd.DataFrame({"pay": [np.inf]}))


@pytest.mark.parametrize("dtype", [float, object])
def test_an_infinite_cell_of_an_array_is_refused(dtype):
    with pytest.raises(ValueError, match="infinity"):
        RowEncoder().fit(np.array([[1.0, 2.0], [3.0, np.inf]], dtype=dtype))


@pytest.mark.parametrize("as_table", [np.asarray, pd.DataFrame])
def test_complex_numbers_are_refused(as_table):
    table = as_table(np.array([[1j], [2j]]))

    with pytest.raises(ValueError, match="Complex data not supported"):
        RowEncoder().fit(table)


@pytest.mark.parametrize(
    ("table", "phrase"),
    [
        (np.ones((0, 2)), "0 sample"),
        (np.ones((2, 0)), "0 feature"),
        (pd.DataFrame({"a": []}), "0 sample"),
        (pd.DataFrame(index=[0, 1]), "0 feature"),
        (pl.DataFrame({"a": []}), "0 sample"),
    ],
)
def test_an_empty_table_is_refused(table, phrase):
    with pytest.raises(ValueError, match=phrase):
        RowEncoder().fit(table)


def test_a_series_is_no_table():
    with pytest.raises(ValueError, match="Expected a 2-dimensional"):
        RowEncoder().fit(pd.Series([1.0, 2.0]))


def test_the_columns_of_an_array_are_numbered():
    prompts = RowEncoder(question="?").fit_transform(np.array([[1.5, 2.0]]))

    assert prompts == ["x0 is 1.5, x1 is 2. ?"]


@pytest.mark.parametrize("as_table", [pd.DataFrame, pl.DataFrame])
def test_other_columns_than_those_of_fit_are_refused(as_table):
    encoder = RowEncoder().fit(as_table({"a": [1, 2], "b": [3, 4]}))

    with pytest.raises(ValueError, match="feature names should match"):
        encoder.transform(as_table({"b": [1, 2], "a": [3, 4]}))


@by_wording
def test_a_polars_frame_is_written_as_the_pandas_one(wording):
    day, moment = dt.date(2024, 2, 29), dt.datetime(2023, 7, 1, 18, 30)
    level = pl.Enum(["low", "middle", "high"])
    shared = {
        "whole": [1, None, 70],
        "real": [1.5, -2.25, None],
        "flag": [True, None, False],
        "text": ["x", None, ""],
        "empty": [None, None, None],
    }
    polars = pl.DataFrame(
        {
            **shared,
            "level": pl.Series(["high", None, "low"], dtype=level),
            "kind": pl.Series(["b", "a", None], dtype=pl.Categorical),
            "day": [day, None, dt.date(2020, 1, 1)],
            "moment": [None, moment, dt.datetime(2021, 1, 1)],
            "wait": [dt.timedelta(hours=1), None, dt.timedelta(seconds=5)],
            "clock": [dt.time(1, 30), None, dt.time(2)],
            "price": [Decimal("1.50"), None, Decimal("20.00")],
        }
    )
    categories = pd.CategoricalDtype(["low", "middle", "high"], ordered=True)
    pandas = pd.DataFrame(
        {
            "whole": pd.array([1, None, 70], dtype="Int64"),
            "real": [1.5, -2.25, None],
            "flag": pd.array([True, None, False], dtype="boolean"),
            "text": ["x", None, ""],
            "empty": [None, None, None],
            "level": pd.Categorical(["high", None, "low"], dtype=categories),
            "kind": pd.Categorical(["b", "a", None]),
            "day": pd.to_datetime(["2024-02-29", None, "2020-01-01"]),
            "moment": pd.to_datetime([None, "2023-07-01 18:30", "2021-01-01 00:00"]),
            "wait": pd.to_timedelta(["1h", None, "5s"]),
            "clock": [dt.time(1, 30), None, dt.time(2)],
            "price": [1.5, None, 20.0],
        }
    )

    encoder = RowEncoder(**wording).fit(pandas)
    prompts = RowEncoder(**wording).fit_transform(polars)

    assert prompts == encoder.transform(pandas) == encoder.transform(polars)


def test_a_weight_is_needed_for_every_row_and_none_is_negative():
    table = pd.DataFrame({"a": [1, 2, 3]})

    for weight, phrase in [
        ([1, 2], "inconsistent numbers of samples|sample_weight.shape"),
        ([1, -1, 1], "Negative values"),
        ([1, np.nan, 1], "NaN"),
        ([0, 0, 0], "at least one non-zero"),
    ]:
        with pytest.raises(ValueError, match=phrase):
            check_sample_weight(weight, table)


def test_no_weight_means_that_all_rows_weigh_one():
    weight = check_sample_weight(None, pd.DataFrame({"a": [1, 2]}))

    np.testing.assert_array_equal(weight, [1.0, 1.0])


@pytest.mark.parametrize(
    ("target", "phrase"),
    [
        (None, "RowEncoder requires y to be passed"),
        ([1.0, np.nan], "NaN"),
        ([1.0, np.inf], "infinity"),
        ([1.0], "inconsistent numbers of samples"),
    ],
)
def test_a_target_that_does_not_fit_the_table_is_refused(target, phrase):
    table = pd.DataFrame({"a": [1, 2]})

    with pytest.raises(ValueError, match=phrase):
        check_target(RowEncoder(), target, table, numeric=True)


def test_a_numeric_target_is_read_as_floats_and_labels_stay_as_they_are():
    table = pd.DataFrame({"a": [1, 2]})

    numbers = check_target(RowEncoder(), [1, 2], table, numeric=True)
    labels = check_target(RowEncoder(), ["x", "y"], table)

    assert numbers.dtype == np.float64
    assert (numbers.tolist(), labels.tolist()) == ([1.0, 2.0], ["x", "y"])


def test_columns_of_equal_names_are_compared_with_those_of_fit():
    table = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    encoder = RowEncoder(question="?").fit(table)

    prompts = encoder.transform(table)

    assert prompts == ["a is 1, b is 2, a (2) is 3. ?"]
    assert encoder.feature_names_in_.tolist() == ["a", "b", "a (2)"]
    with pytest.raises(ValueError, match="feature names should match"):
        encoder.transform(table.iloc[:, [1, 0, 2]])


@settings(max_examples=50)
@given(names=st.lists(st.sampled_from(["", "a", "a (2)", "column 1", "ü"])))
def test_no_column_is_nameless_and_no_two_have_one_name(names):
    distinct = distinct_names(names)

    assert len(set(distinct)) == len(names)
    assert all(distinct)
    assert all(d.startswith(name) for d, name in zip(distinct, names, strict=True))


# Names of columns

CELLS = np.array([[1.5, 10.0], [2.5, 20.0], [3.5, 30.0]])


def named(*names):
    """Return a frame whose columns have the names."""
    return pd.DataFrame(CELLS, columns=pd.Index([*names]))


NUMBERED = pd.DataFrame(CELLS)
NAMES = {
    "texts": ("a", "b"),
    "numbers": (1, 2),
    "other numbers": (5, 7),
    "fractions": (0.5, 1.5),
    "levels": (("a", 1), ("a", 2)),
    "dates": (pd.Timestamp("2024"), pd.Timestamp("2025")),
    "days": (dt.date(2024, 1, 1), dt.date(2025, 1, 1)),
    "intervals": (pd.Interval(0, 1), pd.Interval(1, 2)),
    "periods": (pd.Period("2024"), pd.Period("2025")),
    "digits": ("1", "2"),
    "one twice": (3, 3),
    "one text twice": ("a", "a"),
    "missing": (None, 1.0),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_any_type_are_those_of_fit_or_refused(kind):
    encoder = RowEncoder(question="?").fit(named(*NAMES[kind]))

    assert len(encoder.transform(named(*NAMES[kind]))) == len(CELLS)
    others = [names for other, names in NAMES.items() if other != kind]
    others += [NAMES[kind][::-1]] if len({*NAMES[kind]}) > 1 else []
    for names in others:
        with pytest.raises(ValueError, match="feature names should match"):
            encoder.transform(named(*names))


@pytest.mark.parametrize(
    ("seen", "given", "words"),
    [
        (("a", "b"), ("b", "a"), "in the same order"),
        ((0, 1), (1, 0), "in the same order"),
        ((("a", 1), ("a", 2)), (("a", 2), ("a", 1)), "in the same order"),
        ((0, 1), (1, 2), "unseen at fit time:\n- 2\n.*yet now missing:\n- 0\n"),
        (("1", "2"), (1, 2), "unseen at fit time:\n- 1\n.*missing:\n- '1'\n"),
        (("a", "b"), ("a", "c"), "unseen at fit time:\n- c\n.*missing:\n- b\n"),
        (("a", "a"), ("a", "b"), "unseen at fit time:\n- b\n"),
        ((1, 1), (1, 2), "unseen at fit time:\n- 2\n.*missing:\n- 1\n"),
        ((5, 7), (0, 1), "unseen at fit time:\n- 0\n- 1\n.*missing:\n- 5\n- 7\n"),
    ],
)
def test_names_that_differ_are_named(seen, given, words):
    encoder = RowEncoder().fit(named(*seen))

    with pytest.raises(ValueError, match=re.compile(words, re.DOTALL)):
        encoder.transform(named(*given))


def test_only_the_first_of_many_names_are_listed():
    wide = pd.DataFrame(np.ones((1, 9)), columns=[*"abcdefghi"])
    encoder = RowEncoder().fit(wide)

    with pytest.raises(ValueError, match=r"missing:\n(- [d-h]\n){5}- \.\.\.\n$"):
        encoder.transform(wide[[*"abc"]])


def test_names_of_which_some_are_texts_are_refused_in_fit():
    for names in [("a", 1), ("1", 1), ("a", ("b", 1))]:
        with pytest.raises(TypeError, match="only supported if all input features"):
            RowEncoder().fit(named(*names))


WITHOUT_NAMES = {
    "array": CELLS,
    "objects": CELLS.astype(object),
    "rows": CELLS.tolist(),
    "tuples": tuple(map(tuple, CELLS)),
    "queue": deque(CELLS.tolist()),
    "series": [pd.Series(row) for row in CELLS],
}


def sentences(encoder, X):
    """Return what is written of a table, and the warnings."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        prompts = encoder.transform(X)
    return prompts, [str(warning.message) for warning in told]


@pytest.mark.parametrize("kind", WITHOUT_NAMES)
@pytest.mark.parametrize("names", [("a", "b"), (5, 7), (("a", 1), ("a", 2))])
def test_what_has_no_names_goes_by_order_with_scikit_learns_warning(kind, names):
    encoder = RowEncoder(question="?").fit(named(*names))

    prompts, told = sentences(encoder, WITHOUT_NAMES[kind])

    assert prompts == encoder.transform(named(*names))
    assert len(told) == 1
    assert told[0].startswith("X does not have valid feature names, but RowEncoder")


def test_a_frame_that_pandas_numbered_has_no_names_beside_texts():
    prompts, told = sentences(RowEncoder(question="?").fit(named("a", "b")), NUMBERED)

    assert prompts[0] == "a is 1.5, b is 10. ?"
    assert told[0].startswith("X does not have valid feature names")
    prompts, told = sentences(RowEncoder(question="?").fit(NUMBERED), named("a", "b"))
    assert prompts[0] == "0 is 1.5, 1 is 10. ?"
    assert told[0].startswith("X has feature names, but RowEncoder was fitted without")


@pytest.mark.parametrize("kind", WITHOUT_NAMES)
def test_arrays_and_frames_that_pandas_numbered_are_alike_without_a_word(kind):
    without = WITHOUT_NAMES[kind]
    for first, second in [(without, NUMBERED), (NUMBERED, without), (without, CELLS)]:
        prompts, told = sentences(RowEncoder(question="?").fit(first), second)

        assert len(prompts) == len(CELLS)
        assert told == []


def test_the_numbers_of_an_arrays_columns_in_another_order_are_refused():
    encoder = RowEncoder().fit(CELLS)

    with pytest.raises(ValueError, match="in the same order"):
        encoder.transform(NUMBERED[[1, 0]])
    _, told = sentences(encoder, named("b", "a"))
    assert told[0].startswith("X has feature names, but RowEncoder was fitted without")


@pytest.mark.parametrize("seen", ["array", "frame", "numbered"])
def test_another_count_of_columns_is_told_in_scikit_learns_words(seen):
    tables = {"array": CELLS, "frame": named("a", "b"), "numbered": NUMBERED}
    encoder = RowEncoder().fit(tables[seen])

    for wide in (np.ones((1, 3)), [[1.0, 2.0, 3.0]], pd.DataFrame(np.ones((1, 3)))):
        with pytest.raises(ValueError, match="X has 3 features, but RowEncoder is exp"):
            encoder.transform(wide)


def test_a_second_fit_forgets_the_names_of_the_first():
    encoder = RowEncoder(question="?")

    for first, second in [
        (named("a", "b"), CELLS),
        (named(5, 7), CELLS),
        (named("a", "b"), named(5, 7)),
        (named(5, 7), named("a", "b")),
    ]:
        encoder.fit(first).fit(second)

        has_texts = isinstance(second, pd.DataFrame) and "a" in second
        assert hasattr(encoder, "feature_names_in_") == has_texts
        assert sentences(encoder, second)[1] == []


# Cells of arrays and lists


@by_wording
def test_cells_of_a_list_are_read_as_those_of_the_frame(wording):
    table = pd.DataFrame(
        {
            "size": [1.25, 2.5, None, 4.0],
            "rooms": [1, 2, 3, 4],
            "place": ["hill", None, "lake", "town"],
            "new": [True, False, True, False],
            "sold": pd.to_datetime(["2024-02-29", "2020-01-01", None, "2023-07-01"]),
        }
    )
    encoder = RowEncoder(**wording).fit(table)
    cells = table.astype(object).where(table.notna(), None)

    for X in (cells.to_numpy(), cells.to_numpy().tolist(), table.to_numpy()):
        assert sentences(encoder, X)[0] == encoder.transform(table)
        again = RowEncoder(**wording).fit(X)
        assert sentences(again, table)[0] == again.transform(X)
        assert again._ways == encoder._ways


NO_TABLES = {
    "series": (pd.Series([1.0]), "Pass a DataFrame"),
    "one dimension": (np.ones(3), "Reshape your data"),
    "three dimensions": (np.ones((2, 2, 2)), "dim 3"),
    "sparse": (csr_array(np.eye(2)), "Sparse data was passed"),
    "texts": (["a", "b"], "Expected 2D array"),
    "a row": ([0.5, "a"], "Expected 2D array"),
    "structured": (np.zeros(2, [("a", float)]), r"pd\.DataFrame\(X\)"),
    "columns": ({"a": [1, 2]}, r"got dict\. .*pd\.DataFrame\(X\)"),
    "records": ([{"a": 1}, {"a": 2}], r"list of dict\. .*pd\.DataFrame\(X\)"),
    "generator": ((row for row in CELLS), r"got generator\. .*list\(X\)"),
    "set": ({1, 2}, r"got set\. .*list\(X\)"),
    "text": ("table.csv", "got str"),
    "number": (3, "got int"),
    "nothing": (None, "got NoneType"),
    "class": (pd.DataFrame, "got type"),
    "lazy": (pl.LazyFrame({"a": [1]}), r"X\.collect\(\)"),
    "unlike rows": ([[1, 2], [3]], "row 0 has 2 cells and row 1 has 1 cells"),
    "unlike arrays": ([np.ones(1), np.ones(2)], "row 0 has 1 cells and row 1 has 2"),
    "no row": ([[1, 2], 3], "row 1 has no list of cells"),
    "an empty list": ([], "Expected 2D array"),
    "complex": ([[1j], [2j]], "Complex data not supported"),
    "complex objects": (pd.DataFrame({"a": [1j]}, dtype=object), "Complex data"),
    "infinite": ([[1.0, "a"], [np.inf, "b"]], "column 'x0', row 1"),
}


@pytest.mark.parametrize("kind", NO_TABLES)
def test_what_is_no_table_is_told_what_to_do(kind):
    X, words = NO_TABLES[kind]

    with pytest.raises((TypeError, ValueError), match=words):
        RowEncoder().fit(X)


# Once


def n_checks(call):
    """Return how often a table is checked in a call."""
    profile = cProfile.Profile()
    profile.runcall(call)
    calls = {entry.code: entry.callcount for entry in profile.getstats()}
    return calls.get(check_table.__code__, 0)


def short_classifier(**parameters):
    tuner = FineTuner(max_steps=3, n_models=1)
    return LIFTClassifier(finetuner=tuner, random_state=0, **parameters)


def test_an_estimators_table_is_checked_once():
    table = pd.DataFrame({"a": np.arange(20.0), "b": [*"uv"] * 10})
    classifier = short_classifier()

    assert n_checks(lambda: classifier.fit(table, [0, 1] * 10)) == 1
    assert n_checks(lambda: classifier.predict(table)) == 1
    assert n_checks(lambda: classifier.sample_y(table)) == 1
    assert n_checks(lambda: classifier.conformalize(table, [0, 1] * 10)) == 1
    assert n_checks(lambda: classifier.encoder_.transform(table)) == 1


class Loud(RowEncoder):
    """An encoder whose sentences are RowEncoder's in capitals, but for training."""

    def transform(self, X):
        return [sentence.upper() for sentence in super().transform(X)]


class Narrow:
    """An encoder of one's own around a RowEncoder, for one of the columns."""

    def fit(self, X, y=None):
        self.inner_ = RowEncoder(question="?").fit(X[["b"]])
        return self

    def transform(self, X):
        return self.inner_.transform(X[["b"]])


def test_an_encoder_that_overrides_ours_is_called():
    table = pd.DataFrame({"a": np.arange(20.0), "b": [*"uv"] * 10})

    classifier = short_classifier(encoder=Loud()).fit(table, [0, 1] * 10)

    prompts = [s.upper() for s in RowEncoder.transform(classifier.encoder_, table)]
    answers = classifier.decoder_.answers_.texts
    score = classifier.language_model_.score(prompts, answers)
    temperature = classifier.decoder_.temperature_
    assert temperature > 1
    prior = np.log(classifier.decoder_.class_prior_)
    odds = np.exp(prior + (score - prior) / temperature)
    np.testing.assert_allclose(
        classifier.predict_proba(table), odds / odds.sum(axis=1, keepdims=True)
    )


def test_an_encoder_around_ours_gets_a_plain_frame_with_the_names_of_fit():
    table = pd.DataFrame({"a": np.arange(20.0), "b": [*"uv"] * 10})
    classifier = short_classifier(encoder=Narrow()).fit(table, [0, 1] * 10)
    proba = classifier.predict_proba(table)

    with pytest.warns(UserWarning, match="valid feature names, but LIFTClassifier"):
        np.testing.assert_array_equal(classifier.predict_proba(table.values), proba)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        classifier.predict(table.to_numpy().tolist())
    assert len(told) == 1


@pytest.mark.parametrize("encoder", [RowEncoder(), Loud(), Narrow()])
def test_an_infinite_cell_never_reaches_an_encoder(encoder):
    table = pd.DataFrame({"a": np.arange(20.0), "b": [*"uv"] * 10})
    classifier = short_classifier(encoder=encoder).fit(table, [0, 1] * 10)

    with pytest.raises(ValueError, match="contains infinity"):
        classifier.predict(table.assign(a=np.inf))


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_any_type_are_saved(kind, tmp_path):
    table = named(*NAMES[kind])
    short_classifier().fit(table, [0, 1, 0]).save(tmp_path)

    loaded = load(tmp_path)

    assert len(loaded.predict(table)) == len(table)
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(named("q", "r"))
    with pytest.warns(UserWarning, match="valid feature names"):
        loaded.predict(CELLS)
