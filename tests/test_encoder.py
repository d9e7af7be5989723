import datetime as dt
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_random_state
from tiny import by_rule

from liftlearn import RowEncoder

fast = settings(max_examples=40)
few = settings(max_examples=25)

dates = st.datetimes(dt.datetime(1600, 1, 1), dt.datetime(2400, 1, 1))
waits = st.timedeltas(dt.timedelta(-(10**6)), dt.timedelta(10**6))
clocks = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=9))])
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.dates(),
    st.timedeltas(),
    st.lists(st.integers(), max_size=2),
)
# The cells of each kind of column, and the pandas type that holds them.
COLUMNS = [
    (st.floats(allow_infinity=False), "float64"),
    (st.none() | st.floats(width=32, allow_infinity=False), "Float32"),
    (st.integers(-(2**63), 2**63 - 1), "int64"),
    (st.none() | st.integers(0, 5), "Int8"),
    (st.booleans(), "bool"),
    (st.none() | st.booleans(), "boolean"),
    (st.none() | st.text(max_size=5), "str"),
    (st.none() | st.text(max_size=5), "string"),
    (st.none() | st.text(max_size=5), "object"),
    (st.none() | st.sampled_from("abc"), "category"),
    (st.none() | st.integers(0, 3), pd.CategoricalDtype([3, 1, 0, 2], ordered=True)),
    (st.none() | dates, "datetime64[us]"),
    (st.none() | st.datetimes(timezones=clocks) | st.dates(), "object"),
    (st.none() | waits, "timedelta64[us]"),
    (st.none() | st.decimals(-100, 100), "object"),
    (anything, "object"),
]
WORDINGS = [
    {},
    {"digits": 17},
    {"numbers": "scaled", "digits": 3},
    {"numbers": "row"},
    {"columns": "index", "numbers": "scaled"},
    {"columns": "index", "numbers": "scaled", "spacing": "zscore"},
    {"columns": "index", "numbers": "scaled", "spacing": "quantile"},
    {"columns": "index", "numbers": "plain"},
    {"columns": "index", "numbers": "row"},
]
WORDLESS = [
    {"columns": "none", "numbers": "scaled"},
    {"columns": "none", "numbers": "plain"},
]
BY_INDEX = {"columns": "index", "numbers": "scaled", "question": "y?"}
named = st.sampled_from(WORDINGS)
wordings = st.sampled_from(WORDINGS + WORDLESS)


@st.composite
def tables(draw):
    """Return a table of up to 6 rows and 5 columns of any names and kinds."""
    n_rows, n_columns = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    columns = []
    for _ in range(n_columns):
        cells, dtype = draw(st.sampled_from(COLUMNS))
        column = draw(st.lists(cells, min_size=n_rows, max_size=n_rows))
        columns.append(pd.Series(column, dtype=dtype))
    table = pd.concat(columns, axis=1)
    names = st.lists(st.text(max_size=6), min_size=n_columns, max_size=n_columns)
    table.columns = draw(names)
    return table


def slot_words(cells, **parameters):
    """Return what follows the slot in each row of a table of one column."""
    prompts = RowEncoder(**BY_INDEX, **parameters).fit_transform(
        pd.DataFrame({"a": cells})
    )
    return [prompt.removeprefix("x0 ").removesuffix("y?").strip() for prompt in prompts]


# Any table


@fast
@given(table=tables(), wording=wordings, jitter=st.sampled_from([0.0, 0.1]))
def test_any_table_is_written_as_sentences_that_end_in_the_question(
    table, wording, jitter
):
    encoder = RowEncoder(question="Retired?", jitter=jitter, **wording)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prompts = encoder.fit_transform(table)
        prompts += encoder.augment(table, np.random.RandomState(0))

    assert len(prompts) == 2 * len(table)
    assert all(prompt.endswith("Retired?") for prompt in prompts)


@few
@given(table=tables(), wording=wordings)
def test_a_rows_sentence_does_not_depend_on_the_other_rows(table, wording):
    encoder = RowEncoder(**wording).fit(table)

    prompts = encoder.transform(table)

    assert [encoder.transform(table.iloc[[i]])[0] for i in range(len(table))] == prompts
    assert encoder.transform(table[::-1]) == prompts[::-1]


@few
@given(table=tables(), wording=wordings)
def test_without_jitter_a_row_is_augmented_to_itself(table, wording):
    encoder = RowEncoder(jitter=0, shuffle_columns=False, **wording).fit(table)

    augmented = encoder.augment(table, np.random.RandomState(0))

    assert augmented == encoder.transform(table)


@few
@given(table=tables(), wording=wordings)
def test_the_callers_table_and_the_global_stream_are_left_alone(table, wording):
    table_before = table.copy(deep=True)
    stream = check_random_state(None)  # numpy's own
    stream_before = pickle.dumps(stream.get_state())

    is_named = wording not in WORDLESS
    encoder = RowEncoder(jitter=0.1, shuffle_columns=is_named, **wording).fit(table)
    encoder.augment(table, np.random.RandomState(0))

    pd.testing.assert_frame_equal(table, table_before)
    assert pickle.dumps(stream.get_state()) == stream_before


@fast
@given(table=tables(), wording=named)
def test_missing_cells_never_appear_and_all_others_do(table, wording):
    table.columns = [f"column {i}" for i in range(table.shape[1])]
    marks = {name: f"[[{name}]]" for name in table.columns}

    prompts = RowEncoder(descriptions=marks, **wording).fit_transform(table)

    shown = [[mark in prompt for mark in marks.values()] for prompt in prompts]
    assert shown == table.notna().to_numpy().tolist()


@fast
@given(
    names=st.lists(st.text(min_size=1).map(str.strip), min_size=1, unique=True),
    data=st.data(),
)
def test_a_sentence_says_each_name_and_cell_in_any_script(names, data):
    names = [name for name in names if name] or ["a"]
    texts = st.text().filter(str.strip)
    row = [data.draw(texts) for _ in names]

    [prompt] = RowEncoder(question="?").fit_transform(
        pd.DataFrame([row], columns=names)
    )

    facts = ", ".join(
        f"{name} is {text}" for name, text in zip(names, row, strict=True)
    )
    assert prompt == f"{facts}. ?"


@fast
@given(
    numbers=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=8),
    digits=st.integers(1, 17),
)
def test_a_plain_number_is_read_back_to_its_significant_digits(numbers, digits):
    prompts = RowEncoder(digits=digits, question="?").fit_transform(
        pd.DataFrame({"a": numbers})
    )

    read = [float(p.removeprefix("a is ").removesuffix(". ?")) for p in prompts]
    np.testing.assert_allclose(read, numbers, rtol=0.51 * 10.0 ** (1 - digits), atol=0)


@fast
@given(
    numbers=st.lists(
        st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30
    ),
    spacing=st.sampled_from(["zscore", "quantile", "mixed"]),
    digits=st.integers(1, 4),
)
def test_scaled_numbers_rise_with_the_cells_and_have_a_fixed_width(
    numbers, spacing, digits
):
    words = slot_words(np.sort(numbers), spacing=spacing, digits=digits)

    read = [word.replace(" ", "") for word in words]
    assert read == sorted(read)
    assert {len(word) for word in read} == {digits}


# Kinds of columns


@pytest.mark.parametrize(
    "cells",
    [
        [True, False, None],
        pd.array([True, False, None], dtype="boolean"),
        ["b", "a", None],
        pd.array(["b", "a", None], dtype="string"),
        pd.Categorical(["b", "a", None]),
        pd.Categorical(["b", "a", None], ["b", "c", "a"]),
    ],
)
def test_levels_have_codes_in_sorted_order(cells):
    assert slot_words(cells) == ["c1", "c0", ""]


def test_ordered_levels_have_ranks_in_their_own_order():
    order = pd.CategoricalDtype(
        ["tiny", "low", "never", "middle", "high"], ordered=True
    )

    words = slot_words(pd.Series(["low", "high", None, "middle", "tiny"], dtype=order))

    # Four levels occur: eighths 3, 7, 5 and 1 of the scale.
    assert words == ["37", "87", "", "62", "12"]


@pytest.mark.parametrize("dtype", ["float64", "Int64", "object", "timedelta64[s]"])
def test_few_numbers_have_the_positions_of_their_ranks(dtype):
    cells = pd.Series([1, 1, 2, 2, 500, 500], dtype=dtype)

    assert slot_words(cells) == ["16", "16", "50", "50", "83", "83"]


def test_whole_numbers_read_alike_in_every_type():
    table = pd.DataFrame({"a": [3, 14, 15, 92]})

    prompts = RowEncoder().fit_transform(table)

    for dtype in ["int8", "uint64", "float32", "Int64", "Float64", "object"]:
        assert RowEncoder().fit_transform(table.astype(dtype)) == prompts


def test_a_level_that_fit_never_saw_has_a_word_of_its_own():
    encoder = RowEncoder(**BY_INDEX).fit(pd.DataFrame({"a": ["x", "y"]}))

    prompts = encoder.transform(pd.DataFrame({"a": ["x", "new", None]}))

    assert prompts == ["x0 c0 y?", "x0 c? y?", "y?"]


def test_a_level_that_fit_never_saw_is_written_by_name():
    encoder = RowEncoder(question="?").fit(pd.DataFrame({"a": ["x", "y"]}))

    assert encoder.transform(pd.DataFrame({"a": ["new"]})) == ["a is new. ?"]


def test_a_new_cell_in_an_empty_column_is_a_new_level():
    encoder = RowEncoder(**BY_INDEX).fit(pd.DataFrame({"a": [None, None]}))

    prompts = encoder.transform(pd.DataFrame({"a": ["x", None]}))

    assert prompts == ["x0 c? y?", "y?"]


@pytest.mark.parametrize("wording", WORDINGS + WORDLESS)
@pytest.mark.parametrize("cell", [7, 1e308, 5e-324, -0.25, True, "x", dt.date(1, 1, 1)])
def test_a_constant_column_is_written_alike_in_every_row(wording, cell):
    table = pd.DataFrame({"a": [cell] * 4})

    prompts = RowEncoder(question="?", **wording).fit_transform(table)

    assert len(set(prompts)) == 1
    assert prompts[0] != "?"


def test_many_columns_and_levels_have_words_of_their_own():
    table = pd.DataFrame([[f"level {i}"] * 130 for i in range(70)] * 3)

    prompts = RowEncoder(**BY_INDEX).fit_transform(table)

    first = prompts[0].removesuffix(" y?").split(" c0 c0")
    assert len(set(first[:-1])) == 130
    assert len(set(prompts)) == 70


def test_strings_with_many_distinct_cells_are_free_text():
    cells = [f"note {i}." for i in range(30)]

    assert slot_words(cells) == cells


def test_plain_whole_numbers_are_not_rounded_outside_training():
    encoder = RowEncoder(question="?").fit(pd.DataFrame({"a": [1, 2, 3]}))

    prompts = encoder.transform(pd.DataFrame({"a": [2.5, -0.0]}))

    assert prompts == ["a is 2.5. ?", "a is 0. ?"]


def test_numbers_beyond_the_range_of_fit_are_written_as_its_end():
    encoder = RowEncoder(**BY_INDEX).fit(pd.DataFrame({"a": np.arange(50.0)}))

    lowest, highest, *beyond = encoder.transform(
        pd.DataFrame({"a": [0.0, 49.0, -1e300, 1e300]})
    )

    assert beyond == [lowest, highest]


def test_row_numbers_tell_a_rows_shape_apart_from_its_level_and_size():
    curve = np.array([0.1, 0.4, 0.9, 0.3])
    table = pd.DataFrame([curve, 100 + 50 * curve, -curve])
    encoder = RowEncoder(numbers="row", columns="index", question="?").fit(table)

    # Median .35, mean deviation .225: .5 + (x - .35) / 1.8
    assert encoder.transform(table) == [
        "x0 36 x1 52 x2 80 x3 47 x4 50 x5 31 ?",
        "x0 36 x1 52 x2 80 x3 47 x4 89 x5 84 ?",
        "x0 63 x1 47 x2 19 x3 52 x4 33 x5 31 ?",
    ]


def test_names_of_a_rows_level_and_size_are_no_columns_of_the_table():
    table = pd.DataFrame({"row median": [1.0, 2.0], "b": [3.0, 5.0]})

    sentence = RowEncoder(numbers="row", question="?").fit_transform(table)[0]

    labels = [fact.split(" is ")[0] for fact in sentence.split(". ")[0].split(", ")]
    assert labels == ["row median", "b", "row median (2)", "row deviation"]


def curves(rng, n_rows, noise, n_columns=40):
    """Return one bump or dip in each row, of sizes over four orders of magnitude."""
    place = rng.uniform(5, n_columns - 5, (n_rows, 1))
    bump = np.exp(-((np.arange(n_columns) - place) ** 2) / 20)
    size = np.exp(rng.uniform(0, np.log(1e4), (n_rows, 1)))
    sign = rng.choice([-1, 1], (n_rows, 1))
    shape = 1 + 0.05 * sign * bump + noise * rng.normal(size=(n_rows, n_columns))
    return pd.DataFrame(size * shape)


@pytest.mark.parametrize(
    ("table", "jitter"),
    [
        (pd.DataFrame(np.random.RandomState(0).normal(size=(30, 15))), 0.05),
        (pd.DataFrame(np.random.RandomState(0).normal(size=(30, 40))), 0.125),
        (pd.DataFrame(np.random.RandomState(0).normal(size=(30, 100))), 0.2),
        # Levels are not jittered, and do not count.
        (pd.DataFrame(np.random.RandomState(0).randint(3, size=(30, 16))), 0.05),
        (curves(np.random.RandomState(0), 30, noise=0.0), 0.05),
    ],
    ids=["few", "more", "many", "levels", "curves"],
)
def test_jitter_by_table_grows_with_the_columns_of_numbers(table, jitter):
    encoder = by_rule(RowEncoder(), "numbers", "jitter").fit(table)

    assert encoder.jitter_ == pytest.approx(jitter)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_by_table_curves_are_written_by_row(noise):
    table = curves(np.random.RandomState(0), 100, noise)
    table.iloc[3, 5] = np.nan

    encoder = by_rule(RowEncoder(), "numbers").fit(table)

    assert encoder.numbers_ == "row"


@pytest.mark.parametrize(
    "table",
    [
        curves(np.random.RandomState(0), 100, noise=0.5),
        curves(np.random.RandomState(0), 100, noise=0.0, n_columns=15),
        pd.DataFrame(np.random.RandomState(0).normal(size=(100, 40))),
        pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]}),
    ],
    ids=["much noise", "few columns", "columns apart", "few numbers"],
)
def test_by_table_other_rows_are_written_by_column(table):
    assert by_rule(RowEncoder(), "numbers").fit(table).numbers_ == "scaled"


# Places


def many_columns(**cells):
    """Return a table of 20 rows and 33 columns of which some are given."""
    rng = np.random.RandomState(0)
    return pd.DataFrame(
        {f"x{i}": rng.normal(size=20) for i in range(33 - len(cells))} | cells
    )


def with_missing(share):
    """Return such a table without that share of its cells."""
    return many_columns().mask(np.random.RandomState(0).rand(20, 33) < share)


def test_without_words_for_columns_each_cell_has_the_same_position_in_every_row():
    table = pd.DataFrame(
        {"a": [0.5, np.nan, 2.5], "b": ["u", None, "v"], "c": [7.0, 8.0, 9.0]}
    )
    encoder = RowEncoder(columns="none", numbers="scaled", question="y?").fit(table)

    new = pd.DataFrame({"a": [1.5], "b": ["w"], "c": [np.nan]})

    assert encoder.transform(table) == ["24 c0 17 y?", "c? c? 50 y?", "75 c1 82 y?"]
    assert encoder.transform(new) == ["50 c? c? y?"]


def test_without_words_for_columns_unknown_cells_are_as_long_as_known_ones():
    levels = [f"level {i}" for i in range(100)] * 2
    table = pd.DataFrame({"a": levels, "b": np.arange(200.0)})
    encoder = RowEncoder(columns="none", numbers="scaled", digits=4).fit(table)

    (known,) = encoder.transform(table[:1])
    (unknown,) = encoder.transform(pd.DataFrame({"a": ["new"], "b": [np.nan]}))

    assert unknown.startswith("c? c? c? c? ")
    assert len(unknown.split(" ")) == len(known.split(" "))


@pytest.mark.parametrize(
    ("table", "parameters", "columns"),
    [
        (many_columns(), {}, "none"),
        (many_columns(level=["u", "v"] * 10, rank=[1, 2] * 10), {}, "none"),
        (many_columns().iloc[:, 1:], {}, "index"),
        (many_columns(date=pd.date_range("2020", periods=20)), {}, "index"),
        (many_columns(text=[f"word {i}" for i in range(20)]), {}, "index"),
        (with_missing(0.7), {}, "index"),
        (with_missing(0.3), {}, "none"),
        (many_columns(), {"descriptions": {"x0": "age"}}, "index"),
        (many_columns(), {"shuffle_columns": True}, "index"),
    ],
    ids=[
        "wide", "kinds", "narrow", "date", "text", "sparse", "some missing",
        "described", "shuffled",
    ],
)  # fmt: skip
def test_by_table_full_rows_of_many_columns_have_no_words_for_columns(
    table, parameters, columns
):
    encoder = by_rule(RowEncoder(numbers="scaled", **parameters), "columns").fit(table)

    assert encoder.columns_ == columns


@pytest.mark.parametrize(
    "parameter", [{"descriptions": {"a": "age"}}, {"shuffle_columns": True}], ids=str
)
def test_no_words_for_columns_go_with_neither_descriptions_nor_shuffling(parameter):
    encoder = RowEncoder(columns="none", **parameter)

    with pytest.raises(ValueError, match='columns="index"'):
        encoder.fit(pd.DataFrame({"a": [1]}))


def test_row_numbers_leave_other_columns_as_they_are():
    table = pd.DataFrame({"a": ["x", "y"]})

    assert RowEncoder(numbers="row", question="?").fit_transform(table) == [
        "a is x. ?",
        "a is y. ?",
    ]


# Dates


def test_plain_dates_have_their_weekday_and_time():
    moments = [dt.datetime(2024, 2, 29), dt.datetime(2024, 3, 1, 18, 5), None]

    prompts = RowEncoder(question="?").fit_transform(pd.DataFrame({"a": moments}))

    assert prompts == [
        "a is Thursday 2024-02-29. ?",
        "a is Friday 2024-03-01 18:05. ?",
        "?",
    ]


def test_scaled_dates_are_the_fields_that_vary():
    moments = pd.to_datetime(["2020-01-01 06:00", "2023-01-16 06:00", None])

    # Year 0/4 and 3/4, day 0/31 and 15/31, Wednesday 2/7 and Monday 0/7.
    assert slot_words(moments) == ["00 00 28", "75 48 00", ""]


def test_dates_are_written_by_their_own_clocks():
    tokyo = dt.timezone(dt.timedelta(hours=9))
    moment = dt.datetime(2024, 3, 1, 18, 5)
    mixed = [moment, moment.replace(tzinfo=tokyo), moment.replace(tzinfo=dt.UTC)]

    of_one_clock = RowEncoder().fit_transform(
        pd.DataFrame({"a": pd.Series(mixed[1:2] * 3)})
    )
    of_mixed_clocks = RowEncoder().fit_transform(
        pd.DataFrame({"a": pd.Series(mixed, dtype=object)})
    )

    assert of_one_clock == of_mixed_clocks
    assert "18:05" in of_one_clock[0]


@pytest.mark.parametrize("cell", ["yesterday", "2024", 5, 2.5])
def test_a_date_column_that_holds_other_cells_later_is_refused(cell):
    encoder = RowEncoder().fit(pd.DataFrame({"born": [dt.date(2020, 1, 1)] * 2}))

    with pytest.raises(ValueError, match="Column 'born' held dates when"):
        encoder.transform(pd.DataFrame({"born": [cell]}))


@pytest.mark.parametrize("cell", ["tall", dt.date(2020, 1, 1)])
def test_a_number_column_that_holds_other_cells_later_is_refused(cell):
    encoder = RowEncoder().fit(pd.DataFrame({"size": [1.5, 2.5]}))

    with pytest.raises(ValueError, match="Column 'size' held numbers when"):
        encoder.transform(pd.DataFrame({"size": [cell]}))


# Text


@pytest.mark.parametrize("columns", ["names", "index"])
def test_long_text_is_cut_with_a_warning_that_names_the_column(columns):
    notes = [f"{i:02d}-and-much-more" for i in range(12)]
    encoder = RowEncoder(columns=columns, text_length=6)

    with pytest.warns(UserWarning, match=r"Column 'note' .*more than 6 .*text_length"):
        encoder.fit(pd.DataFrame({"note": notes}))

    prompts = encoder.transform(pd.DataFrame({"note": notes}))

    assert all(note[:6] in p for note, p in zip(notes, prompts, strict=True))
    assert not any(note[:7] in p for note, p in zip(notes, prompts, strict=True))


@pytest.mark.parametrize("cell", ["", " ", "\n\t"])
def test_invisible_text_is_quoted(cell):
    prompts = RowEncoder(question="?").fit_transform(pd.DataFrame({"a": [cell]}))

    assert prompts == [f'a is "{cell}". ?']


# Wording


def test_names_that_are_no_strings_are_written_as_text():
    table = pd.DataFrame([[1.5, 2.5]], columns=[7, dt.date(2024, 1, 1)])

    prompts = RowEncoder(question="?").fit_transform(table)

    assert prompts == ["7 is 1.5, 2024-01-01 is 2.5. ?"]


def test_empty_and_equal_names_are_told_apart():
    table = pd.DataFrame([list("pqrs")], columns=["a", "", " a", "column 2"])

    prompts = RowEncoder(question="?").fit_transform(table)

    assert prompts == ["a is p, column 2 is q, a (2) is r, column 2 (2) is s. ?"]


@pytest.mark.parametrize(
    ("y", "question"),
    [
        (None, "What is the target?"),
        ([1], "What is the target?"),
        (pd.Series([1]), "What is the target?"),
        (pd.Series([1], name="pay"), "What is pay?"),
        (pd.Series([1], name=0), "What is 0?"),
    ],
)
def test_the_question_names_the_target(y, question):
    encoder = RowEncoder().fit(pd.DataFrame({"a": [None]}), y)

    assert encoder.transform(pd.DataFrame({"a": [None]})) == [question]


def test_the_task_stands_before_each_row():
    table = pd.DataFrame({"a": ["x", None]})

    prompts = RowEncoder(task="Guess.", question="?").fit_transform(table)

    assert prompts == ["Guess. a is x. ?", "Guess. ?"]


def test_a_description_is_written_instead_of_a_name_or_index():
    table = pd.DataFrame({"a": ["x"], 5: ["z"]})
    table.columns = [4, 5]
    descriptions = {5: "the second letter"}

    by_name = RowEncoder(descriptions=descriptions, question="?")
    by_slot = RowEncoder(descriptions=descriptions, **BY_INDEX)

    assert by_name.fit_transform(table) == ["4 is x, the second letter is z. ?"]
    assert by_slot.fit_transform(table) == ["x0 c0 the second letter c0 y?"]


def test_a_description_of_an_unknown_column_is_refused():
    encoder = RowEncoder(descriptions={"b": "the b"})

    with pytest.raises(ValueError, match="descriptions names the column 'b'"):
        encoder.fit(pd.DataFrame({"a": [1]}))


def test_a_template_is_filled_with_the_cells():
    table = pd.DataFrame({"age": [41, None], "job": ["{age}", "cook"], "pay": [1, 2]})
    template = "{job}, {age}, {job}: }{ Retired?"

    prompts = RowEncoder(template=template, task="So:").fit_transform(table)

    assert prompts == [
        "So: {age}, 41, {age}: }{ Retired?",
        "So: cook, unknown, cook: }{ Retired?",
    ]


def test_a_template_without_fields_is_the_sentence_of_every_row():
    prompts = RowEncoder(template="Well?").fit_transform(pd.DataFrame({"a": [1, 2]}))

    assert prompts == ["Well?", "Well?"]


def test_a_template_with_an_unknown_field_is_refused():
    encoder = RowEncoder(template="{age} and {job}")

    with pytest.raises(ValueError, match="The template names the column 'job'"):
        encoder.fit(pd.DataFrame({"age": [1]}))


@pytest.mark.parametrize(
    "parameter",
    [
        {"columns": "short"},
        {"numbers": "binned"},
        {"digits": 0},
        {"digits": 18},
        {"spacing": "rank"},
        {"template": 1},
        {"task": 1},
        {"descriptions": ["a"]},
        {"question": None},
        {"jitter": -0.1},
        {"word_dropout": 1.0},
        {"cell_dropout": 1.0},
        {"shuffle_columns": "yes"},
        {"text_length": 0},
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named(parameter):
    with pytest.raises(ValueError, match=f"'{next(iter(parameter))}' parameter"):
        RowEncoder(**parameter).fit(pd.DataFrame({"a": [1]}))


# Weights


@pytest.mark.parametrize("wording", WORDINGS + WORDLESS)
def test_a_weight_is_a_number_of_repetitions(wording):
    rng = np.random.RandomState(0)
    # Of more than ten distinct numbers, so that repeating makes no ranks of them.
    table = pd.DataFrame({"a": rng.lognormal(size=40), "b": rng.normal(size=40)})
    counts = rng.randint(0, 4, size=40)
    encoder = RowEncoder(jitter=0.1, **wording)

    weighted = clone(encoder).fit(table, sample_weight=counts)
    repeated = clone(encoder).fit(table.loc[np.repeat(np.arange(40), counts)])

    assert weighted.transform(table) == repeated.transform(table)
    assert weighted.augment(table, np.random.RandomState(1)) == repeated.augment(
        table, np.random.RandomState(1)
    )


def test_levels_of_rows_without_weight_are_not_learnt():
    table = pd.DataFrame({"a": ["x", "y", "z"]})

    encoder = RowEncoder(**BY_INDEX).fit(table, sample_weight=[1, 0, 1])

    assert encoder.transform(table) == ["x0 c0 y?", "x0 c? y?", "x0 c1 y?"]


# With scikit-learn


def test_the_encoder_works_in_a_pipeline():
    table = pd.DataFrame({"word": ["red", "blue"] * 10, "size": [1, 2, 3, 4] * 5})
    pipeline = make_pipeline(RowEncoder(), CountVectorizer(), LogisticRegression())

    score = pipeline.fit(table, table["word"] == "red").score(
        table, table["word"] == "red"
    )

    assert score == 1.0


@pytest.mark.parametrize("wording", WORDINGS + WORDLESS)
def test_a_pickled_encoder_writes_the_same(wording):
    table = pd.DataFrame(
        {
            "a": [1.5, 2.5, None],
            "b": ["x", None, "z"],
            "c": pd.to_datetime(["2024-01-01", "2025-05-05", None]),
        }
    )
    encoder = RowEncoder(**wording).fit(table)

    loaded = pickle.loads(pickle.dumps(encoder))

    assert loaded.transform(table) == encoder.transform(table)
