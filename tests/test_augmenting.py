"""What the encoder writes otherwise in training, and in other wordings."""

import numpy as np
import pandas as pd
import pytest
from tiny import by_rule

from liftlearn import RowEncoder


@pytest.mark.parametrize("scale", [1.0, 1e306, 1e-300])
def test_jitter_is_measured_in_standard_deviations_of_the_column(scale):
    numbers = scale * np.random.RandomState(0).normal(10, 3, size=4000)
    table = pd.DataFrame({"a": numbers})
    encoder = RowEncoder(jitter=0.2, digits=8, question="?").fit(table)

    prompts = encoder.augment(table, np.random.RandomState(1))

    read = [float(p.removeprefix("a is ").removesuffix(". ?")) for p in prompts]
    noise = (np.array(read) - numbers) / scale
    np.testing.assert_allclose(noise.std(), 0.2 * 3, rtol=0.05)
    np.testing.assert_allclose(noise.mean(), 0, atol=5 * 0.2 * 3 / np.sqrt(4000))


def test_jitter_keeps_whole_numbers_whole_and_everything_else_as_it_is():
    table = pd.DataFrame(
        {
            "whole": np.arange(100),
            "rank": np.arange(100) % 4,
            "level": ["x", "y"] * 50,
            "flag": [True, False] * 50,
            "day": pd.date_range("2024-01-01", periods=100),
            "text": [f"note {i}" for i in range(100)],
        }
    )
    encoder = RowEncoder(jitter=1.0, question="?").fit(table)

    pairs = zip(
        encoder.transform(table),
        encoder.augment(table, np.random.RandomState(0)),
        strict=True,
    )

    split = [(a.split(", ", 1), b.split(", ", 1)) for a, b in pairs]
    assert all(a[1] == b[1] for a, b in split)
    assert sum(a[0] != b[0] for a, b in split) > 80
    assert all(b[0].removeprefix("whole is ").lstrip("-").isdigit() for _, b in split)


def test_words_of_free_text_are_left_out_with_the_given_probability():
    words = [f"w{i}" for i in range(50)]
    table = pd.DataFrame(
        {
            "note": [" ".join([*words, f"end{i}"]) for i in range(400)],
            "level": ["two words", "three short words"] * 200,
        }
    )
    encoder = RowEncoder(word_dropout=0.3, question="?").fit(table)

    prompts = encoder.augment(table, np.random.RandomState(0))

    notes = [p.removeprefix("note is ").split(", level is ")[0] for p in prompts]
    kept = np.array([[word in note.split() for word in words] for note in notes])
    np.testing.assert_allclose(kept.mean(axis=0), 0.7, atol=0.1)
    np.testing.assert_allclose(kept.mean(), 0.7, atol=0.01)
    for text, note in zip(table["note"], notes, strict=True):
        assert [word for word in text.split() if word in note.split()] == note.split()
    assert {p.split(", level is ")[1] for p in prompts} == {
        "two words. ?",
        "three short words. ?",
    }
    whole = "note is " + table["note"][0] + ", level is two words. ?"
    assert encoder.transform(table)[0] == whole


CELLS = pd.DataFrame(
    {
        "number": np.random.RandomState(0).normal(size=4000),
        "level": np.tile(["u", None, "v", "w"], 1000),
        "text": [f"came by train {i}" for i in range(4000)],
    }
)


@pytest.mark.parametrize(
    ("wording", "known", "unknown"),
    [
        ({"columns": "names"}, "level is w", None),
        ({"columns": "index", "numbers": "scaled"}, "x1 c2", "x1 c?"),
        ({"template": "{level}?", "columns": "names"}, "w?", "unknown?"),
    ],
    ids=["names", "index", "template"],
)
def test_cells_are_not_known_with_the_given_probability(wording, known, unknown):
    encoder = RowEncoder(cell_dropout=0.3, **wording).fit(CELLS)

    prompts = encoder.augment(CELLS[3::4], np.random.RandomState(1))

    n_known = sum(known in prompt for prompt in prompts)
    np.testing.assert_allclose(n_known / len(prompts), 0.7, atol=0.06)
    if unknown:
        n_unknown = sum(unknown in prompt for prompt in prompts)
        assert n_known + n_unknown == len(prompts)
    assert encoder.transform(CELLS) == RowEncoder(**wording).fit_transform(CELLS)


def test_dropped_cells_without_words_for_columns_leave_the_others_where_they_are():
    levels = [f"level {i}" for i in range(100)] * 2
    table = pd.DataFrame({"a": levels, "b": np.arange(200.0)})
    encoder = RowEncoder(columns="none", numbers="scaled", cell_dropout=0.5)

    prompts = encoder.fit(table).augment(table, np.random.RandomState(0))

    assert {len(prompt.split(" ")) for prompt in prompts} == {
        len(prompt.split(" ")) for prompt in encoder.transform(table)
    }
    assert {prompt[:5] == "c? c?" for prompt in prompts} == {True, False}


def test_a_cell_that_is_missing_is_not_dropped():
    encoder = RowEncoder(
        columns="index", numbers="scaled", question="y?", cell_dropout=0.5
    ).fit(CELLS)

    prompts = encoder.augment(CELLS[1::4], np.random.RandomState(1))

    assert not any("x1" in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("n_rows", "n_numbers", "n_levels", "dropout"),
    [
        (80, 7, 9, 0.0),
        (80, 8, 0, 0.1),
        (80, 16, 4, 0.1),
        (80, 24, 0, 0.15),
        (80, 60, 0, 0.3),
        (74, 0, 3, 0.2),
        (74, 24, 0, 0.2),
        (74, 60, 0, 0.3),
    ],
)
def test_cell_dropout_by_table_grows_with_columns_of_numbers_and_helps_few_rows(
    n_rows, n_numbers, n_levels, dropout
):
    numbers = np.random.RandomState(0).normal(size=(n_rows, n_numbers))
    levels = np.tile([[0], [1]], (n_rows // 2, n_levels))
    table = pd.DataFrame(np.hstack([numbers, levels]))

    encoder = by_rule(RowEncoder(), "cell_dropout").fit(table)

    assert encoder.cell_dropout_ == pytest.approx(dropout)


def test_cells_of_curves_are_not_dropped():
    levels = 10.0 ** np.random.RandomState(0).uniform(0, 9, size=(20, 1))
    curves = pd.DataFrame(levels * (1 + 1e-3 * np.sin(np.arange(20))))

    encoder = by_rule(RowEncoder(), "numbers", "cell_dropout").fit(curves)

    assert (encoder.numbers_, encoder.cell_dropout_) == ("row", 0.0)


def test_a_text_keeps_a_word_and_is_cut_after_words_were_left_out():
    table = pd.DataFrame({"note": [f"alone{i}" for i in range(30)]})
    encoder = RowEncoder(word_dropout=0.99, question="?").fit(table)

    assert encoder.augment(table, np.random.RandomState(0)) == encoder.transform(table)

    long = pd.DataFrame({"note": [f"a{i} b{i} c{i} d{i}" for i in range(30)]})
    with pytest.warns(UserWarning, match="more than 5 characters"):
        cut = RowEncoder(word_dropout=0.5, text_length=5, question="?").fit(long)
    prompts = cut.augment(long, np.random.RandomState(0))
    assert any("d" in prompt for prompt in prompts)


def test_shuffled_columns_say_the_same_in_another_order():
    table = pd.DataFrame({name: [name.upper()] * 20 for name in "abcd"})
    encoder = RowEncoder(shuffle_columns=True, question="?").fit(table)

    prompts = encoder.augment(table, np.random.RandomState(0))

    facts = {"a is A", "b is B", "c is C", "d is D"}
    assert all(set(p.removesuffix(". ?").split(", ")) == facts for p in prompts)
    assert len(set(prompts)) > 5
    assert len(set(encoder.transform(table))) == 1


@pytest.mark.parametrize(("decay", "share"), [(0.25, 0.5), (1.0, 1.0), ("auto", 1.0)])
def test_jitter_falls_geometrically_with_the_progress(decay, share):
    column = np.random.RandomState(0).normal(size=500)
    encoder = RowEncoder(jitter=0.1, jitter_decay=decay, digits=9, template="{a}")
    table = pd.DataFrame({"a": column})
    encoder.fit(table)

    early, half = (
        np.array(encoder.augment(table, np.random.RandomState(1), at), float)
        for at in [0.0, 0.5]
    )

    assert np.std(early - column) == pytest.approx(0.1, rel=0.1)
    np.testing.assert_allclose(half - column, share * (early - column), atol=1e-7)


def test_one_seed_augments_alike_and_another_call_does_not():
    table = pd.DataFrame({"a": np.random.RandomState(0).normal(size=50)})
    encoder = RowEncoder(jitter=0.1).fit(table)
    rng = np.random.RandomState(3)

    first, second = encoder.augment(table, rng), encoder.augment(table, rng)

    assert encoder.augment(table, np.random.RandomState(3)) == first != second


@pytest.mark.parametrize("numbers", ["plain", "scaled"])
def test_wordings_differ_in_their_jitter_and_are_the_same_for_each_row(numbers):
    rng = np.random.RandomState(0)
    table = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"])
    table.loc[3, "a"] = np.nan
    encoder = RowEncoder(
        numbers=numbers, digits=6, jitter=0.1, shuffle_columns=True, question="?"
    ).fit(table)

    wordings = encoder.reword(table, 5)

    assert wordings[0] == encoder.transform(table)
    assert all(len(set(row)) > 1 for row in zip(*wordings, strict=True))
    alone = [encoder.reword(table[i : i + 1], 5) for i in range(60)]
    assert [[row[0] for row in wording] for wording in zip(*alone, strict=True)] == (
        wordings
    )
    assert any(prompt.startswith("b is") for prompt in wordings[1] + wordings[2])


def test_the_jitters_of_two_wordings_cancel():
    table = pd.DataFrame({"a": np.random.RandomState(0).normal(size=50)})
    encoder = RowEncoder(jitter=0.2, digits=9, question="?").fit(table)

    wordings = encoder.reword(table, 3)

    plain, up, down = np.array(
        [
            [float(p.removeprefix("a is ").removesuffix(". ?")) for p in wording]
            for wording in wordings
        ]
    )
    np.testing.assert_allclose((up + down) / 2, plain, atol=1e-6)
    np.testing.assert_allclose(up - plain, (up - plain)[0], atol=1e-6)
    assert 0 < abs((up - plain)[0]) < 1


def test_rewording_leaves_no_words_out():
    table = pd.DataFrame({"note": [f"two words {i}" for i in range(30)]})
    encoder = RowEncoder(word_dropout=0.9, question="?").fit(table)

    assert encoder.reword(table, 2) == [encoder.transform(table)] * 2
