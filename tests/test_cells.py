"""A cell is its value: what it is does not depend on the container it came in."""

import datetime as dt
import io
import json
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import liftlearn
from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    RowEncoder,
)

fast = settings(deadline=None, derandomize=True, max_examples=60)

BY_INDEX = {"columns": "index", "numbers": "scaled", "question": "y?"}
NAMES = {"columns": "names", "numbers": "plain", "question": "?"}
WORDLESS = {"columns": "none", "numbers": "scaled", "question": "y?"}
by_wording = pytest.mark.parametrize(
    "wording", [BY_INDEX, NAMES, WORDLESS], ids=["index", "names", "none"]
)
DAYS = [dt.date(2020, 1, 1), None, dt.date(2022, 3, 3)]
MOMENTS = [dt.datetime(2020, 1, 1, 5), None, dt.datetime(2022, 3, 3)]
HOUR = dt.timedelta(hours=1)


def column(cells, dtype=None):
    """Return a table of one column."""
    return pd.DataFrame({"a": pd.Series(cells, dtype=dtype)})


def arrow(cells, dtype):
    """Return a table of one column that Arrow holds in pandas."""
    return column(pd.array(cells, dtype=pd.ArrowDtype(dtype)))


def fitted(cells, wording):
    return RowEncoder(**wording).fit(column(cells))


# Levels


INTEGERS = {
    "integers": column(pd.Categorical([1, None, 3], [1, 2, 3])),
    "float categories": column(pd.Categorical([1.0, np.nan, 3.0])),
    "float32 categories": column(
        pd.Categorical(pd.Series([1, np.nan, 3], dtype=np.float32))
    ),
    "other categories": column(pd.Categorical([1, None, 3], [3, 9, 1])),
    "text categories": column(pd.Categorical(["1", None, "3"])),
    "ordered categories": column(pd.Categorical([1, None, 3], [3, 1], ordered=True)),
    "floats": column([1, np.nan, 3]),
    "float32": column([1, np.nan, 3], np.float32),
    "nullable": column([1, None, 3], "Int8"),
    "nullable floats": column([1, None, 3], "Float32"),
    "objects": column([np.int8(1), pd.NA, Decimal("3.0")], object),
    "scalars": column([np.float32(1), None, Fraction(3)], object),
    "text": column(["1", None, "3"]),
    "text of floats": column(["1.0", None, "3.0"]),
    "sparse": column(pd.arrays.SparseArray([1.0, np.nan, 3.0])),
    "arrow": arrow([1, None, 3], pa.int64()),
    "arrow floats": arrow([1, None, 3], pa.float32()),
    "arrow decimals": arrow([1, None, 3], pa.decimal128(5, 2)),
    "arrow text": arrow(["1", None, "3"], pa.large_string()),
    "arrow dictionary": arrow([1, None, 3], pa.dictionary(pa.int8(), pa.int64())),
    "polars": pl.DataFrame({"a": [1, None, 3]}),
    "polars floats": pl.DataFrame({"a": [1.0, None, 3.0]}),
    "polars categories": pl.DataFrame(
        {"a": pl.Series(["1", None, "3"], dtype=pl.Categorical)}
    ),
    "arrow table": pa.table({"a": pa.array([1.0, None, 3.0])}),
    "arrow table of a dictionary": pa.table(
        {"a": pa.array([1.0, None, 3.0]).dictionary_encode()}
    ),
    "json": pd.DataFrame(json.loads("[[1.0], [null], [3]]"), columns=["a"]),
    "csv": pd.read_csv(io.StringIO("a,b\n1,\n,\n3,\n"))[["a"]],
}


@by_wording
@pytest.mark.parametrize("table", INTEGERS.values(), ids=list(INTEGERS))
def test_a_level_is_its_value_in_every_container(table, wording):
    encoder = fitted(pd.Categorical([1, 2, 3] * 4), wording)
    expected = encoder.transform(INTEGERS["integers"])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder.transform(table) == expected

    assert len(set(expected)) == 3


BOOLEANS = {
    "booleans": column([True, None, False], object),
    "numpy": column([np.True_, None, np.False_], object),
    "integers": column([1, None, 0], object),
    "floats": column([1.0, np.nan, 0.0]),
    "negative zero": column([1.0, np.nan, -0.0]),
    "nullable": column([True, None, False], "boolean"),
    "nullable integers": column([1, None, 0], "Int64"),
    "categories": column(pd.Categorical([True, None, False])),
    "float categories": column(pd.Categorical([1.0, None, 0.0])),
    "text": column(["True", None, "False"]),
    "other text": column(["true", None, "0"]),
    "arrow": arrow([True, None, False], pa.bool_()),
    "polars": pl.DataFrame({"a": [True, None, False]}),
    "polars integers": pl.DataFrame({"a": [1, None, 0]}),
    "arrow table": pa.table({"a": [True, None, False]}),
    "json": pd.DataFrame(json.loads("[[true], [null], [false]]"), columns=["a"]),
}


@by_wording
@pytest.mark.parametrize("held", ["bool", "category", "boolean", "object"])
@pytest.mark.parametrize("table", BOOLEANS.values(), ids=list(BOOLEANS))
def test_true_is_one_and_false_is_zero_in_a_column_of_booleans(table, held, wording):
    encoder = fitted(pd.Series([True, False] * 5).astype(held), wording)

    assert encoder.transform(table) == encoder.transform(BOOLEANS["booleans"])
    assert encoder.transform(column([True, False])) == encoder.transform(
        column(pd.Series([True, False]).astype(held))
    )


@by_wording
def test_a_boolean_is_zero_or_one_among_numbers(wording):
    for held in [[0, 1] * 5, [0.0, 1.0, 2.0, 7.5]]:
        encoder = fitted(held, wording)

        assert encoder.transform(column([True, False])) == encoder.transform(
            column([1, 0])
        )


@by_wording
def test_a_float_level_is_one_in_both_precisions(wording):
    cells = [0.1, 0.7, 1.5]
    for held in (np.float64, np.float32):
        levels = pd.Categorical(pd.Series(cells * 4, dtype=held))
        encoder = fitted(levels, wording)

        written = encoder.transform(column(np.array(cells, np.float64)))

        assert encoder.transform(column(np.array(cells, np.float32))) == written
        assert encoder.transform(column(np.float32(cells).astype(float))) == written
        assert encoder.transform(column([str(cell) for cell in cells])) == written
        assert not any("c?" in prompt for prompt in written)


@pytest.mark.parametrize("held", [np.float64, np.float32])
def test_few_numbers_have_one_rank_in_both_precisions(held):
    cells = [0.1, 0.7]  # which float32 holds as more than that, and as less
    encoder = fitted(np.array(cells * 3, held), BY_INDEX)

    written = encoder.transform(column(np.array(cells, np.float64)))

    assert written == ["x0 25 y?", "x0 75 y?"]
    assert encoder.transform(column(np.array(cells, np.float32))) == written


def test_whole_levels_beyond_float64_are_found_again_as_floats():
    numbers = [2**53 + 1, 2**60 + 3, -(2**62) - 5]
    encoder = fitted(pd.Categorical(numbers * 3), NAMES)

    as_floats = encoder.transform(column([float(number) for number in numbers]))

    assert as_floats == encoder.transform(column(numbers))
    assert as_floats == [f"a is {number}. ?" for number in numbers]


@by_wording
@pytest.mark.parametrize(
    "cells",
    [
        pd.Series(DAYS, dtype=object),
        pd.Series(pd.to_datetime(DAYS)),
        pd.Categorical(pd.to_datetime(DAYS)),
        pd.Series(["2020-01-01", None, "2022-03-03T00:00:00"]),
        pd.array(DAYS, dtype=pd.ArrowDtype(pa.date32())),
        pd.PeriodIndex(["2020-01-01", None, "2022-03-03"], freq="D"),
    ],
)
def test_levels_that_are_dates_are_their_days(cells, wording):
    levels = pd.Categorical(pd.to_datetime(["2020-01-01", "2021-02-02", "2022-03-03"]))
    encoder = fitted(levels, wording)

    assert encoder.transform(column(cells)) == encoder.transform(
        column(pd.Categorical(DAYS))
    )


def test_levels_that_are_moments_are_one_in_every_time_zone():
    tokyo = pd.date_range("2024-01-01", periods=3, freq="31h", tz="Asia/Tokyo")
    encoder = fitted(pd.Categorical(tokyo), BY_INDEX)

    for zone in ("UTC", "America/Lima"):
        levels = pd.Categorical(tokyo.tz_convert(zone))
        assert encoder.transform(column(levels)) == ["x0 c0 y?", "x0 c1 y?", "x0 c2 y?"]


def test_times_that_pandas_cannot_hold_are_levels_among_other_objects():
    cells = [np.datetime64(10**15, "Y"), np.timedelta64(2, "M"), (1, 2), "x"]
    encoder = fitted(pd.Series(cells, dtype=object), BY_INDEX)

    prompts = encoder.transform(column(cells, object))

    assert len(set(prompts)) == 4
    assert not any("c?" in prompt for prompt in prompts)


@by_wording
def test_levels_that_are_intervals_are_their_ends(wording):
    encoder = fitted(pd.cut([0.5, 1.5, 2.5], [0, 1, 2, 3]), wording)

    for ends in ([0.0, 1.0, 2.0, 3.0], np.arange(4)):
        cut = pd.cut([2.1, 0.1], ends)
        assert encoder.transform(column(cut)) == encoder.transform(
            column(pd.IntervalIndex(cut))
        )
        assert not any("c?" in p for p in encoder.transform(column(cut)))


def test_text_and_number_of_one_writing_are_one_level_and_others_are_not():
    encoder = fitted(["1", "02", "x"] * 4, BY_INDEX)

    written = encoder.transform(column([1, "1", "02", 2, "01", "1.0"], object))

    assert [prompt.split()[1] for prompt in written] == ["c1", "c1", "c0", *["c?"] * 3]


@by_wording
@pytest.mark.parametrize("column_of", [None, np.nan, pd.NaT, pd.NA])
def test_every_missing_cell_is_missing(column_of, wording):
    for held in ([1.5, 2.5, 3.5], ["x", "y"], [True, False], pd.Categorical([1, 2])):
        encoder = fitted(held, wording)

        assert encoder.transform(column([column_of], object)) == encoder.transform(
            column([None])
        )


# A warning that a column says nothing


@by_wording
def test_a_column_of_which_no_level_was_met_is_warned_of_by_name(wording):
    encoder = fitted(["nurse", "clerk"] * 6, wording)

    with pytest.warns(UserWarning, match=r"No cell of column 'a' .*filterwarnings"):
        encoder.transform(column(["NURSE", None]))


def test_such_a_warning_comes_once_a_call_however_many_wordings():
    encoder = fitted(["nurse", "clerk"] * 6, BY_INDEX)

    with pytest.warns(UserWarning, match="No cell of column") as caught:
        encoder.reword(column(["NURSE"]), 5)

    assert len(caught) == 1


@pytest.mark.parametrize("cells", [["nurse", "new"], [None, None], ["clerk"]])
def test_a_column_of_which_a_level_was_met_or_none_is_known_is_not_warned_of(cells):
    encoder = fitted(["nurse", "clerk"] * 6, BY_INDEX)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.transform(column(cells))


# Kinds


KINDS = {
    "continuous": [1.5, 2.5, 3.5],
    "discrete": [1, 2] * 5,
    "duration": pd.to_timedelta([1, 2, 3], unit="h"),
    "datetime": pd.to_datetime(["2020-01-01", "2021-05-05", "2022-03-03"]),
    "time": [dt.time(1), dt.time(2, 30), dt.time(3)],
    "boolean": [True, False],
    "text": [f"came by train {i}" for i in range(20)],
    "categorical": ["nurse", "clerk"] * 6,
    "ordinal": pd.Categorical(["low", "high"], ["low", "high"], ordered=True),
    "empty": [None, None],
}
OF_TIME = {"duration", "datetime", "time"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_a_column_is_public(kind):
    assert fitted(KINDS[kind], NAMES).column_kinds_ == {"a": kind}


def test_kinds_are_named_by_the_tables_columns_and_equal_names_are_numbered():
    table = pd.DataFrame([[1.5, "x", True]])

    assert list(RowEncoder().fit(table).column_kinds_) == [0, 1, 2]
    table.columns = ["a", "b", "a"]
    assert list(RowEncoder().fit(table).column_kinds_) == ["a", "b", "a (2)"]


@by_wording
@pytest.mark.parametrize("came", KINDS)
@pytest.mark.parametrize("held", ["continuous", "discrete", *sorted(OF_TIME)])
def test_another_kind_than_a_number_or_time_columns_is_refused(held, came, wording):
    encoder = fitted(KINDS[held], wording)
    numbers = {"continuous", "discrete", "boolean"}
    may_come = {held, "empty"} | (numbers if held in numbers else set())

    if came in may_come:
        encoder.transform(column(KINDS[came]))
    else:
        with pytest.raises(ValueError, match=r"Column 'a' held .* in row 0"):
            encoder.transform(column(KINDS[came]))


@by_wording
@pytest.mark.parametrize("held", ["text", "categorical", "ordinal", "boolean"])
@pytest.mark.parametrize("came", sorted(OF_TIME))
def test_times_are_refused_where_words_were_held(held, came, wording):
    encoder = fitted(KINDS[held], wording)

    with pytest.raises(ValueError, match=r"Column 'a' held .* in row 0"):
        encoder.transform(column(KINDS[came]))


def test_free_text_and_booleans_refuse_numbers():
    with pytest.raises(ValueError, match=r"held text .* holds 5 in row 1"):
        fitted(KINDS["text"], BY_INDEX).transform(column(["x", 5], object))
    with pytest.raises(ValueError, match=r"held booleans .* holds 2 in row 1"):
        fitted(KINDS["boolean"], BY_INDEX).transform(column([1, 2]))


@by_wording
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_without_known_cells_is_of_every_kind(kind, wording):
    encoder = fitted(KINDS[kind], wording)
    prompts = encoder.transform(column([None]))

    for dtype in ["float64", "Int64", "object", "str", "category", "boolean"]:
        assert encoder.transform(column([None], dtype)) == prompts
    for dtype in ["datetime64[us]", "timedelta64[s]"]:
        assert encoder.transform(column([pd.NaT], dtype)) == prompts
    for other in (arrow([None], pa.null()), arrow([None], pa.list_(pa.int8()))):
        assert encoder.transform(other) == prompts
    assert encoder.transform(pl.DataFrame({"a": [None]})) == prompts


@pytest.mark.parametrize("dtype", ["float64", "Int64", "object", "category", "str"])
def test_a_column_without_known_cells_in_fit_is_empty_and_takes_any_cells(dtype):
    encoder = RowEncoder(**BY_INDEX).fit(column([None, None], dtype))

    assert encoder.column_kinds_ == {"a": "empty"}
    for cells in KINDS.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prompts = encoder.transform(column(cells))
        assert set(prompts) <= {"x0 c? y?", "y?"}


# Times


DURATIONS = {
    "nanoseconds": column(pd.to_timedelta([1, None, 3], unit="h").as_unit("ns")),
    "seconds": column(pd.to_timedelta([1, None, 3], unit="h").as_unit("s")),
    "objects": column([HOUR, None, 3 * HOUR], object),
    "pandas objects": column([pd.Timedelta(HOUR), pd.NaT, 3 * HOUR], object),
    "numpy objects": column(
        [np.timedelta64(1, "h"), None, np.timedelta64(180, "m")], object
    ),
    "categories": column(pd.Categorical([HOUR, None, 3 * HOUR])),
    "text": column(["0 days 01:00:00", None, "PT3H"]),
    "arrow": arrow([HOUR, None, 3 * HOUR], pa.duration("ms")),
    "polars": pl.DataFrame({"a": [HOUR, None, 3 * HOUR]}),
    "polars milliseconds": pl.DataFrame(
        {"a": pl.Series([HOUR, None, 3 * HOUR], dtype=pl.Duration("ms"))}
    ),
    "arrow table": pa.table({"a": pa.array([HOUR, None, 3 * HOUR])}),
}


@by_wording
@pytest.mark.parametrize("held", DURATIONS)
def test_a_duration_is_its_seconds_in_every_container(held, wording):
    encoder = RowEncoder(**wording).fit(DURATIONS[held])
    if held == "text" or held == "categories":
        encoder = RowEncoder(**wording).fit(DURATIONS["seconds"])

    for table in DURATIONS.values():
        assert encoder.transform(table) == encoder.transform(DURATIONS["seconds"])
    if wording is NAMES:
        assert encoder.transform(DURATIONS["seconds"]) == [
            "a is 3600. ?",
            "?",
            "a is 10800. ?",
        ]


DATES = {
    "objects": column(DAYS, object),
    "seconds": column(pd.to_datetime(DAYS).as_unit("s")),
    "nanoseconds": column(pd.to_datetime(DAYS).as_unit("ns")),
    "numpy objects": column([np.datetime64("2020-01-01"), *DAYS[1:]], object),
    "midnights": column([dt.datetime(2020, 1, 1), *DAYS[1:]], object),
    "periods": column(pd.PeriodIndex(["2020-01-01", None, "2022-03-03"], freq="D")),
    "period objects": column([pd.Period("2020-01-01", "D"), *DAYS[1:]], object),
    "categories": column(pd.Categorical(DAYS)),
    "text": column(["2020-01-01", None, "2022-03-03T00:00:00"]),
    "json": pd.DataFrame(
        json.loads('[["2020-01-01"], [null], ["2022-03-03 00:00"]]'), columns=["a"]
    ),
    "date32": arrow(DAYS, pa.date32()),
    "date64": arrow(DAYS, pa.date64()),
    "timestamp": arrow(DAYS, pa.timestamp("ms")),
    "dictionary": pa.table({"a": pa.array(DAYS).dictionary_encode()}),
    "polars": pl.DataFrame({"a": DAYS}),
    "polars moments": pl.DataFrame({"a": pl.Series(DAYS, dtype=pl.Datetime("ms"))}),
    "arrow table": pa.table({"a": pa.array(DAYS)}),
}


@by_wording
@pytest.mark.parametrize("table", DATES.values(), ids=list(DATES))
def test_a_date_is_its_day_in_every_container(table, wording):
    for held in ("objects", "date32", "polars"):
        encoder = RowEncoder(**wording).fit(DATES[held])

        assert encoder.column_kinds_ == {"a": "datetime"}
        assert encoder.transform(table) == encoder.transform(DATES["seconds"])


@pytest.mark.parametrize("cell", ["yesterday", "2020", "2020-13-01", "", "01.02.2020"])
def test_a_text_that_is_no_date_is_refused_by_its_row(cell):
    encoder = RowEncoder().fit(DATES["objects"])

    with pytest.raises(ValueError, match=rf"Column 'a' .* holds '{cell}' in row 1"):
        encoder.transform(column(["2020-01-01", cell]))


@by_wording
def test_a_moment_is_the_same_in_every_time_zone(wording):
    tokyo = pd.Series(
        pd.date_range("2024-01-01", periods=9, freq="31h", tz="Asia/Tokyo")
    )
    encoder = RowEncoder(**wording).fit(column(tokyo))
    prompts = encoder.transform(column(tokyo))
    universal = tokyo.dt.tz_convert("UTC")
    mixed = [tokyo[0], *universal[1:8], tokyo[8].tz_convert("America/Lima")]

    for same in (
        column(universal),
        column(universal.dt.to_pydatetime(), object),
        column([moment.isoformat() for moment in universal]),
        column(mixed, object),
        column(tokyo.dt.tz_localize(None)),  # by the clock of fit
        column(universal.convert_dtypes(dtype_backend="pyarrow")),
        pl.from_pandas(column(universal)),
        pl.from_pandas(column(universal)).to_arrow(),
    ):
        assert encoder.transform(same) == prompts


class NamedZone(dt.tzinfo):
    """A time zone of another package than Python's own."""

    def __init__(self, name):
        self.name = name

    def __str__(self):
        return self.name

    def utcoffset(self, moment):
        return dt.timedelta(hours=9)

    def dst(self, moment):
        return dt.timedelta(0)


@pytest.mark.parametrize(
    ("name", "clock"), [("Asia/Tokyo", " 09:00"), ("of our own", "")]
)
def test_a_zone_of_another_package_is_known_by_its_name(name, clock):
    moments = [dt.datetime(2024, 1, day, 9, tzinfo=NamedZone(name)) for day in (1, 2)]
    encoder = fitted(pd.Series(moments, dtype=object), NAMES)

    [prompt] = encoder.transform(column(["2024-01-01T00:00:00Z"]))

    assert prompt == f"a is Monday 2024-01-01{clock}. ?"


def test_dates_of_mixed_clocks_keep_their_own():
    mixed = [
        dt.datetime(2024, 1, 1, 9, tzinfo=dt.timezone(dt.timedelta(hours=zone)))
        for zone in (1, 9)
    ]
    encoder = RowEncoder(**NAMES).fit(column(mixed, object))

    assert set(encoder.transform(column(mixed, object))) == {
        "a is Monday 2024-01-01 09:00. ?"
    }


@by_wording
@pytest.mark.parametrize(
    "table",
    [
        column([dt.time(1), None, dt.time(18, 5)], object),
        column(["01:00", None, "18:05:00"]),
        arrow([dt.time(1), None, dt.time(18, 5)], pa.time64("us")),
        arrow([dt.time(1), None, dt.time(18, 5)], pa.time32("s")),
        pl.DataFrame({"a": [dt.time(1), None, dt.time(18, 5)]}),
    ],
)
def test_a_time_of_day_is_its_position_in_the_day(table, wording):
    encoder = fitted([dt.time(1), dt.time(18, 5), dt.time(23)], wording)

    first, missing, last = encoder.transform(table)

    assert (first, missing, last) == tuple(
        encoder.transform(column([dt.time(1), None, dt.time(18, 5)], object))
    )
    if wording is NAMES:
        assert (first, last) == ("a is 01:00. ?", "a is 18:05. ?")
    else:
        assert first < last


@pytest.mark.parametrize("cell", ["1.5", " 2 ", "-.5e2", "+3"])
def test_a_text_that_is_a_number_is_one_where_numbers_were_held(cell):
    encoder = fitted([1.5, 2.5, -7.0], NAMES)

    assert encoder.transform(column([cell])) == encoder.transform(column([float(cell)]))


@pytest.mark.parametrize("cell", ["nan", "inf", "1,5", "1_000", "", "0x1", "1e999"])
def test_a_text_that_is_no_finite_number_is_refused(cell):
    with pytest.raises(ValueError, match=r"held numbers .* in row 0"):
        fitted([1.5, 2.5, -7.0], NAMES).transform(column([cell]))


# Declared types


@pytest.mark.parametrize(
    ("dtype", "cells", "kind"),
    [
        (pa.int8(), [1, 2, 3], "continuous"),
        (pa.uint64(), [2**64 - 1, 2, 3], "continuous"),
        (pa.float16(), np.array([1.5, 2.5, 3.5], np.float16), "continuous"),
        (pa.float64(), [1.5, None, 3.5], "continuous"),
        (pa.decimal128(5, 2), [1, None, 3], "continuous"),
        (pa.decimal256(50, 2), [1, None, 3], "continuous"),
        (pa.bool_(), [True, None, False], "boolean"),
        (pa.string(), ["x", None, "y"], "categorical"),
        (pa.large_string(), ["x", None, "y"], "categorical"),
        (pa.string_view(), ["x", None, "y"], "categorical"),
        (pa.dictionary(pa.int8(), pa.string()), ["x", None, "y"], "categorical"),
        (pa.dictionary(pa.int8(), pa.float64()), [1.5, None, 2], "categorical"),
        (pa.date32(), DAYS, "datetime"),
        (pa.date64(), DAYS, "datetime"),
        (pa.timestamp("s"), MOMENTS, "datetime"),
        (pa.timestamp("ns", "Asia/Tokyo"), MOMENTS, "datetime"),
        (pa.duration("us"), [HOUR, None, 2 * HOUR], "duration"),
        (pa.time32("ms"), [dt.time(1), None, dt.time(2)], "time"),
        (pa.null(), [None, None, None], "empty"),
    ],
    ids=str,
)
@by_wording
def test_an_arrow_type_is_read_as_its_plain_equal(dtype, cells, kind, wording):
    table = pa.table({"a": pa.array(cells, dtype)})
    in_pandas = table.to_pandas(types_mapper=pd.ArrowDtype)

    encoder = RowEncoder(**wording).fit(in_pandas)

    assert encoder.column_kinds_ == {"a": kind}
    assert encoder.transform(table) == encoder.transform(in_pandas)
    assert encoder.transform(table.to_pandas()) == encoder.transform(in_pandas)
    assert encoder.transform(in_pandas[1:]) == encoder.transform(in_pandas)[1:]


@pytest.mark.parametrize(
    ("dtype", "cells"),
    [
        (pa.list_(pa.int8()), [[1], None]),
        (pa.large_list(pa.int8()), [[1], None]),
        (pa.list_(pa.int8(), 1), [[1], None]),
        (pa.struct([("x", pa.int8())]), [{"x": 1}, None]),
        (pa.map_(pa.string(), pa.int8()), [[("x", 1)], None]),
        (pa.binary(), [b"x", None]),
        (pa.large_binary(), [b"x", None]),
        (pa.month_day_nano_interval(), [(1, 2, 3), None]),
    ],
    ids=str,
)
def test_an_arrow_type_without_single_values_is_refused_by_name(dtype, cells):
    table = pa.table({"x": [1, 2], "parts": pa.array(cells, dtype)})
    in_pandas = table.to_pandas(types_mapper=pd.ArrowDtype)

    for refused in (table, in_pandas):
        with pytest.raises(
            ValueError, match=r"Column 'parts' is of the type .* Cast it"
        ):
            RowEncoder().fit(refused)
    encoder = RowEncoder().fit(pd.DataFrame({"x": [1, 2], "parts": ["u", "v"]}))
    with pytest.raises(ValueError, match="Column 'parts' is of the type"):
        encoder.transform(in_pandas)


def test_an_arrow_dictionary_of_lists_is_refused():
    parts = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([[1], [2]]))

    with pytest.raises(ValueError, match="Column 'parts' is of the type dictionary"):
        RowEncoder().fit(pa.table({"parts": parts}))


@pytest.mark.parametrize(
    "cells",
    [
        pl.Series([[1], [2]]),
        pl.Series([[1], [2]], dtype=pl.Array(pl.Int8, 1)),
        pl.Series([{"x": 1}, {"x": 2}]),
        pl.Series([b"x", b"y"]),
    ],
    ids=["list", "array", "struct", "binary"],
)
def test_a_polars_type_without_single_values_is_refused_by_name(cells):
    with pytest.raises(ValueError, match="Column 'parts' is of the type"):
        RowEncoder().fit(pl.DataFrame({"parts": cells}))


def test_categories_of_polars_and_arrow_are_levels_however_many():
    cells = [f"level {i % 15}" for i in range(20)]

    for table in (
        pl.DataFrame({"a": pl.Series(cells, dtype=pl.Categorical)}),
        pa.table({"a": pa.array(cells).dictionary_encode()}),
        column(cells, "category"),
    ):
        encoder = RowEncoder(**BY_INDEX).fit(table)
        assert encoder.column_kinds_ == {"a": "categorical"}
        assert encoder.transform(table) == encoder.transform(column(cells))


def test_ordered_categories_of_polars_and_arrow_are_ordinal():
    order = ["low", "never", "high"]
    cells = ["high", "low", None]
    codes = pa.array([2, 0, None], pa.int8())
    ordered = pa.DictionaryArray.from_arrays(codes, pa.array(order), ordered=True)

    for table in (
        pl.DataFrame({"a": pl.Series(cells, dtype=pl.Enum(order))}),
        pa.table({"a": ordered}),
        pa.table({"a": ordered}).to_pandas(types_mapper=pd.ArrowDtype),
        column(pd.Categorical(cells, order, ordered=True)),
    ):
        encoder = RowEncoder(**BY_INDEX).fit(table)
        assert encoder.column_kinds_ == {"a": "ordinal"}
        assert encoder.transform(table) == ["x0 75 y?", "x0 25 y?", "y?"]


def test_an_index_with_repeated_labels_is_no_matter():
    table = pd.concat([arrow([1, 2], pa.int8())] * 2)

    assert len(RowEncoder().fit_transform(table)) == 4


# Text writes text alone


@pytest.fixture(scope="module")
def embedded():
    return LanguageModel.load()


CODES = ["99 99", " 99", "x0 99", "c?", "y1", "y?", "y=", "c7", "x127", r"\99", r"\\c?"]
code_like = st.lists(
    st.sampled_from([*CODES, "word", "", "\t", "5", "123", "x128", "age,", "</s>"])
).map(" ".join)


def wording_tokens(lm):
    """Return the ids of the tokens that are whole words, and of special ones."""
    words = {i for token, i in lm.tokenizer.get_vocab().items() if len(token) > 1}
    assert len(words) > 400
    return words


@fast
@given(text=st.text() | code_like, rest=st.text() | code_like)
@pytest.mark.parametrize("wording", [BY_INDEX, WORDLESS], ids=["index", "none"])
def test_a_text_writes_no_token_of_the_wording(embedded, text, rest, wording):
    table = pd.DataFrame({"note": [text, rest, *"abcdefghijklmnop"], "n": range(18)})
    known = pd.DataFrame({"note": [*"abcdefghijklmnopqr"], "n": range(18)})
    encoder = RowEncoder(**wording).fit(known)
    assert encoder.column_kinds_["note"] == "text"

    tokens = embedded.prompt_tokens(encoder.transform(table))
    expected = embedded.prompt_tokens(encoder.transform(known))

    words = wording_tokens(embedded)
    for written, plain in zip(tokens, expected, strict=True):
        assert [i for i in written if i in words] == [i for i in plain if i in words]


@fast
@given(texts=st.sets(st.text(max_size=6) | code_like, min_size=2, max_size=6))
@pytest.mark.parametrize("wording", [BY_INDEX, NAMES], ids=["index", "names"])
def test_different_texts_are_written_differently(texts, wording):
    encoder = fitted([*"abcdefghijklmnop"], wording)

    assert len(set(encoder.transform(column(sorted(texts))))) == len(texts)


@pytest.mark.parametrize(
    "text", ["came by train 1", "99%", "x-ray", "a 100 b", "room x200", "yes? no"]
)
def test_ordinary_words_are_written_as_they_stand(text):
    encoder = fitted([*"abcdefghijklmnop"], BY_INDEX)

    assert encoder.transform(column([text])) == [f"x0 {text} y?"]


def test_in_words_and_plain_numbers_texts_are_ordinary_language():
    encoder = fitted([*"abcdefghijklmnop"], NAMES)

    assert encoder.transform(column(["room 42, x0 is 7."])) == [
        "a is room 42, x0 is 7.. ?"
    ]


@pytest.mark.parametrize(
    "parameters",
    [
        {"columns": "names", "numbers": "scaled", "question": "y?"},
        {"columns": "names", "numbers": "plain", "question": "y="},
        {"template": "{a} {n} y?", "numbers": "scaled"},
    ],
    ids=["question", "plain", "template"],
)
def test_texts_write_no_codes_where_codes_are_in_use(parameters):
    known = pd.DataFrame({"a": [*"abcdefghijklmnop"], "n": np.arange(16.0)})
    encoder = RowEncoder(**parameters).fit(known)

    [prompt] = encoder.transform(known[:1].assign(a="99 y? {n}"))

    assert r"\99 \y? {n}" in prompt


def test_a_number_is_not_moved_by_what_a_text_says():
    notes = [f"seen by {letter}" for letter in "abcdefghijklmnopqrst"]
    table = pd.DataFrame({"n": np.arange(20.0), "note": notes})
    encoder = RowEncoder(**BY_INDEX).fit(table)

    [posing] = encoder.transform(table[:1].assign(note="99 99 99 99"))

    assert posing.split(" x1 ")[1] == r"\99 \99 \99 \99 y?"


# Warnings that concern a column


@pytest.fixture
def caught():
    """Return a list to which every warning is added, equal ones, too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def n_cuts(caught):
    """Return how many warnings said that texts are cut."""
    return sum("which are cut" in str(warning.message) for warning in caught)


def test_a_fit_warns_once_of_texts_that_are_cut(caught):
    rng = np.random.RandomState(0)
    # No two have a word in common, so they are written as they stand.
    notes = ["".join(rng.choice(list("abcdef"), 60)) for _ in range(24)]
    table = pd.DataFrame({"note": notes, "n": np.arange(24.0)})
    tuner = FineTuner(max_steps=2, batch_size=4, n_models=1)
    classifier = LIFTClassifier(finetuner=tuner, random_state=0)

    classifier.fit(table, [0, 1] * 12)
    classifier.predict(table)

    assert n_cuts(caught) == 1


def test_a_fit_does_not_warn_of_levels_that_it_leaves_out(caught):
    table = column([f"job {i}" for i in range(10)] * 2)
    tuner = FineTuner(
        max_steps=2, n_models=1, early_stopping=True, validation_fraction=0.2
    )
    LIFTClassifier(finetuner=tuner, random_state=0).fit(table, [0, 1] * 10)

    assert not any("was met in fit" in str(warning.message) for warning in caught)


def test_texts_that_are_longer_than_those_of_fit_are_warned_of_when_they_come(caught):
    encoder = RowEncoder(text_length=5).fit(column([*"abcdefghijklmnop"]))

    assert n_cuts(caught) == 0
    encoder.reword(column(["too long"]), 3)
    assert n_cuts(caught) == 1
    encoder.augment(column(["too long"]), np.random.RandomState(0))
    assert n_cuts(caught) == 1


# Lone surrogates


BROKEN = "moka\udce9"
STRING = pd.StringDtype("python", na_value=np.nan)


@pytest.mark.parametrize("dtype", [object, STRING])
@by_wording
def test_a_lone_surrogate_in_a_cell_is_refused_by_column_and_row(dtype, wording):
    match = r"Column 'a', row 1: 'moka\\udce9' has a lone surrogate"
    broken = pd.DataFrame({"a": pd.Series(["tea", BROKEN], dtype=dtype)})

    with pytest.raises(ValueError, match=match):
        RowEncoder(**wording).fit(broken)
    for held in (["tea", "milk"], [*"abcdefghijklmnop"], [1.5, 2.5]):
        with pytest.raises(ValueError, match=match):
            fitted(held, wording).transform(broken)


@pytest.mark.parametrize("as_array", [np.array, list, pd.Categorical])
def test_a_lone_surrogate_is_refused_in_other_containers(as_array):
    cells = [["tea", 1.5], [BROKEN, 2.5]]
    if as_array is pd.Categorical:
        levels = pd.Index(["tea", BROKEN], dtype=object)
        codes = pd.Categorical.from_codes([0, 1], levels)
        cells = pd.DataFrame({"x0": codes})

    table = cells if as_array is pd.Categorical else as_array(cells)

    with pytest.raises(ValueError, match=r"Column 'x0', .* 1: .*lone surrogate"):
        RowEncoder().fit(table)


def test_a_lone_surrogate_in_a_name_or_a_wording_is_refused():
    table = pd.DataFrame([[1, 2]], columns=pd.Index(["a", BROKEN], dtype=object))

    with pytest.raises(ValueError, match=r"name of column 2: .*lone surrogate"):
        RowEncoder().fit(table)
    for parameters in (
        {"task": BROKEN},
        {"question": BROKEN},
        {"template": BROKEN},
        {"descriptions": {"a": BROKEN}},
    ):
        with pytest.raises(
            ValueError, match=f"{next(iter(parameters))[:8]}.*lone surr"
        ):
            RowEncoder(**parameters).fit(column([1, 2]))


@pytest.mark.parametrize("words", ["codes", "labels"])
@pytest.mark.parametrize("of_type", [list, np.array, lambda y: np.array(y, object)])
def test_a_lone_surrogate_in_a_label_is_refused(words, of_type):
    classifier = LIFTClassifier(decoder=LabelDecoder(words=words))

    with pytest.raises(ValueError, match=r"label of row 1: .*lone surrogate"):
        classifier.fit(column([1, 2]), of_type(["tea", BROKEN]))
    with pytest.raises(ValueError, match=r"word of a class: .*lone surrogate"):
        LabelDecoder(words=["tea", BROKEN]).fit(np.array([0, 1]))


# Through an estimator


def test_a_table_of_every_kind_is_learnt_from_every_library():
    table = pd.DataFrame(
        {kind: pd.Series(cells).head(2).repeat(5) for kind, cells in KINDS.items()}
    ).reset_index(drop=True)
    table["cut"] = pd.cut(np.arange(10), 2)
    table["period"] = pd.period_range("2020", periods=10, freq="M")
    plain = table.drop(columns=["cut", "period"])
    tuner = FineTuner(max_steps=1, n_models=1)

    for given_as in (
        table,
        plain.convert_dtypes(dtype_backend="pyarrow"),
        pl.from_pandas(plain),
        pl.from_pandas(plain).to_arrow(),
    ):
        classifier = LIFTClassifier(finetuner=tuner, random_state=0)
        classifier.fit(given_as, [0] * 5 + [1] * 5)
        assert np.isfinite(classifier.predict_proba(given_as)).all()


def test_a_saved_classifier_reads_cells_as_it_did(tmp_path):
    moments = pd.date_range("2024-01-01", periods=12, freq="31h", tz="Asia/Tokyo")
    table = pd.DataFrame(
        {
            "level": pd.Categorical([1, 2, 3] * 4),
            "flag": [True, False] * 6,
            "moment": moments,
            "wait": pd.to_timedelta(np.arange(12), unit="h"),
            "clock": [dt.time(i, 5) for i in range(12)],
            "note": [f"seen by {letter}" for letter in "abcdefghijkl"],
            "few": [0.1, 0.7] * 6,
        }
    )
    tuner = FineTuner(max_steps=1, n_models=1)
    classifier = LIFTClassifier(finetuner=tuner, random_state=0)
    classifier.fit(table, [0, 1] * 6)

    classifier.save(tmp_path / "saved")
    loaded = liftlearn.load(tmp_path / "saved")

    assert loaded.encoder_.column_kinds_ == classifier.encoder_.column_kinds_
    new = table.assign(
        level=table["level"].astype(float),
        moment=moments.tz_convert("UTC"),
        note="99",
        few=table["few"].astype(np.float32),
    )
    assert loaded.encoder_.transform(new) == classifier.encoder_.transform(new)
    np.testing.assert_array_equal(
        loaded.predict_proba(new), classifier.predict_proba(new)
    )


# Strings that are something else


def disguises(cells):
    """Return what is said of a column of these cells."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        RowEncoder().fit(pd.DataFrame({"a": cells}))
    return [str(w.message) for w in said if "strings of column 'a'" in str(w.message)]


FORTY = range(40)
SOME_DAYS = pd.date_range("2023-01-05", periods=40, freq="9D")


@pytest.mark.parametrize(
    "form",
    [
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%m/%d/%y",
        "%d.%m.%Y",
        "%Y/%m/%d",
        "%Y-%m-%d",
        "%Y-%m-%dT%H:%M:%SZ",
        "%m/%d/%Y %I:%M %p",
        "%d-%b-%y",
        "%B %d, %Y",
        "%a %d %B %Y",
        "%b %Y",
        "%Y-%m",
    ],
)
def test_strings_that_are_dates_are_told(form):
    [said] = disguises(SOME_DAYS.strftime(form))

    assert "dates, such as" in said
    assert "pd.to_datetime" in said


@pytest.mark.parametrize(
    "write",
    [
        "{0}",
        "-{0}",
        "{0},5",
        ".{0}",
        "{0}.1e-05",
        "{0},234,567",
        "{0} 234",
        "${0}.50",
        "{0} \u20ac",
        "{0}.3%",
    ],
)
def test_strings_that_are_numbers_are_told(write):
    cells = [write.format(i) for i in FORTY]

    [said] = disguises([*cells, "?", None])
    [said_of_levels] = disguises(cells * 6)

    assert "numbers, such as" in said
    assert "pd.to_numeric" in said
    assert "categorical" in said_of_levels


@pytest.mark.parametrize("form", ["%H:%M", "%H:%M:%S", "%I:%M %p"])
def test_strings_that_are_times_of_day_are_told(form):
    times = pd.date_range("2023-01-05", periods=40, freq="35min")

    [said] = disguises(times.strftime(form))

    assert "times of day, such as" in said


@pytest.mark.parametrize(
    "write", ["{0} days 01:30:00", "PT{0}M", "{0} min", "{0} hours", "P{0}D"]
)
def test_strings_that_are_durations_are_told(write):
    [said] = disguises([write.format(i) for i in FORTY])

    assert "pd.to_timedelta" in said


@pytest.mark.parametrize(
    "write",
    [
        "came by train {0}",
        "{0} m",
        "{0} minds",
        "Smith 20{0}",
        "P{0}",
        "Q1 20{0}",
        "A{0}",
        "0{0}22",
        "0171 {0}",
        "{0} km",
        "{0}.1.2",
        "10.0.{0}.1",
        "{0}-3",
        "{0}:30",
        "{0}/40",
    ],
)
def test_other_strings_pass_for_what_they_are(write):
    assert disguises([write.format(i) for i in FORTY]) == []


def test_few_levels_and_categoricals_are_what_the_user_says():
    numbers = [str(i) for i in FORTY]

    assert disguises(["1", "2", "3"] * 10) == []
    assert disguises(pd.Categorical(numbers)) == []
    assert disguises([" " * i for i in FORTY]) == []


def test_a_date_in_other_words_is_refused_with_what_to_do():
    encoder = RowEncoder().fit(pd.DataFrame({"a": SOME_DAYS}))

    with pytest.raises(ValueError, match=r"Convert it with pd\.to_datetime"):
        encoder.transform(pd.DataFrame({"a": ["12/12/2024"]}))
