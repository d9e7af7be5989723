import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liftlearn import RowEncoder
from liftlearn._validation import check_sample_weight, check_target, distinct_names

by_wording = pytest.mark.parametrize(
    "wording",
    [
        {},
        {"columns": "slots", "numbers": "scaled"},
        {"numbers": "row"},
    ],
    ids=["names", "slots", "row"],
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
