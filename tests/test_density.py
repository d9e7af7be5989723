"""Whole rows: drawn, completed and judged by one model of all columns."""

import pickle
from itertools import product

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from tiny import saved_llama

from liftlearn import (
    FineTuner,
    LanguageModel,
    LIFTDensity,
    NumberDistribution,
    RowEncoder,
    load,
)
from liftlearn._whole_rows import RowCorpus

QUICK = FineTuner(max_steps=8, n_models=1)


def table_of_all_kinds(n_rows=40, seed=0):
    rng = np.random.RandomState(seed)
    day = pd.Timestamp("2024-01-01")
    hours = pd.to_timedelta(rng.randint(0, 500, n_rows), unit="h")
    return pd.DataFrame(
        {
            "age": rng.randint(18, 80, n_rows),
            "length": rng.normal(size=n_rows),
            "tenths": rng.randint(-30, 90, n_rows) / 10,
            "job": rng.choice(["nurse", "cook", None], n_rows),
            "retired": rng.uniform(size=n_rows) > 0.5,
            "day": day + pd.to_timedelta(rng.randint(0, 400, n_rows), unit="D"),
            "there": pd.Series(day.tz_localize("Europe/Berlin") + hours),
            "took": pd.to_timedelta(rng.randint(0, 5000, n_rows), unit="s"),
            "every": pd.to_timedelta(rng.randint(1, 4, n_rows), unit="h"),
            "grade": pd.Categorical(rng.choice(list("abc"), n_rows), list("cbad")),
            "count": pd.array(rng.randint(0, 10_000, n_rows), dtype="Int64"),
            "holed": np.where(rng.uniform(size=n_rows) < 0.3, np.nan, rng.rand(n_rows)),
        }
    )


@pytest.fixture(scope="module")
def all_kinds():
    X = table_of_all_kinds()
    return X, LIFTDensity(finetuner=QUICK, random_state=0).fit(X)


def few_levels(n_rows=30, seed=0):
    rng = np.random.RandomState(seed)
    a = rng.choice(["p", "q", "r"], n_rows)
    b = np.where(rng.uniform(size=n_rows) < 0.8, a == "p", a == "q")
    return pd.DataFrame({"a": a, "b": b})


def fitted(X, y=None, **parameters):
    given = {"finetuner": QUICK, "random_state": 0, **parameters}
    return LIFTDensity(**given).fit(X, y)


def names_and_numbers(**parameters):
    return RowEncoder(columns="names", numbers="plain", **parameters)


ENCODERS = {
    "codes, fixed order": RowEncoder(shuffle_columns=False),
    "codes": None,
    "names": names_and_numbers(),
    "names, fixed order": names_and_numbers(shuffle_columns=False),
}


# Probabilities


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("n_models", [1, 2])
def test_probabilities_of_all_rows_sum_to_1(encoder, n_models):
    X = few_levels()
    X.loc[3, "a"] = None
    tuner = FineTuner(max_steps=4, n_models=n_models)
    density = fitted(X, encoder=encoder, finetuner=tuner)
    rows = pd.DataFrame(product(["p", "q", "r", None], [True, False]), columns=[*"ab"])

    total = np.exp(density.score_samples(rows)).sum()

    assert total == pytest.approx(1.0, abs=1e-9)


def test_in_one_order_a_probability_is_the_product_of_the_cells():
    X = few_levels()
    density = fitted(X, encoder=RowEncoder(shuffle_columns=False))
    first = density.conditional(X.assign(b=None), "a")
    second = density.conditional(X, "b")

    expected = [
        np.log(first.loc[i, row["a"]]) + np.log(second.loc[i, row["b"]])
        for i, row in X.iterrows()
    ]

    np.testing.assert_allclose(density.score_samples(X), expected, atol=1e-9)


def test_whole_numbers_have_probabilities_that_sum_to_1():
    rng = np.random.RandomState(0)
    X = pd.DataFrame({"n": np.round(rng.exponential(200.0, 60))})
    density = fitted(X)

    every = pd.DataFrame({"n": np.arange(-8000.0, 10_000.0)})
    inside = every["n"].between(X["n"].min(), X["n"].max())

    probability = np.exp(density.score_samples(every))
    assert X["n"].max() - X["n"].min() > 300
    assert probability.sum() == pytest.approx(1.0, abs=1e-9)
    assert 0.9 < probability[inside].sum() < 0.99


def test_densities_of_a_continuous_column_integrate_to_1():
    X = pd.DataFrame({"x": np.random.RandomState(0).normal(size=50)})
    density = fitted(X)
    low, high = X["x"].min(), X["x"].max()
    [column] = density.rows_.columns
    rooms = column.answers.rooms
    middle = pd.DataFrame({"x": (rooms[:-1] + rooms[1:]) / 2})
    away = np.arange(0.0005, 30.0, 0.001)

    inside = (np.exp(density.score_samples(middle)) * np.diff(rooms)).sum()

    tails = [
        np.exp(density.score_samples(pd.DataFrame({"x": beyond}))).sum() * 0.001
        for beyond in (low - away, high + away)
    ]
    assert inside + sum(tails) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("column", ["age", "length", "count", "day"])
def test_an_outlier_is_ever_less_probable_the_further_away_it_is(all_kinds, column):
    X, density = all_kinds
    row = X[:1]
    span = X[column].max() - X[column].min()

    scores = [
        density.score_samples(row.assign(**{column: X[column].max() + n * span}))[0]
        for n in (0, 1, 2, 10)
    ]

    assert (np.diff(scores) < -0.5).all()
    assert np.isfinite(scores).all()


def test_a_missing_cell_is_left_out_where_fit_had_none():
    X = few_levels()
    density = fitted(X, encoder=RowEncoder(shuffle_columns=False))
    without = X.assign(b=None).drop_duplicates()
    rows = pd.DataFrame(product(["p", "q", "r"], [True, False]), columns=[*"ab"])

    marginal = np.exp(density.score_samples(without))

    joint = np.exp(density.score_samples(rows)).reshape(3, 2).sum(axis=1)
    expected = dict(zip("pqr", joint, strict=True))
    np.testing.assert_allclose(marginal, without["a"].map(expected), atol=1e-9)


def test_a_level_that_was_not_met_has_no_probability():
    density = fitted(few_levels())

    scores = density.score_samples(pd.DataFrame({"a": ["p", "s"], "b": [True, True]}))

    assert np.isfinite(scores[0])
    assert scores[1] == -np.inf


def test_the_score_is_the_sum_over_rows(all_kinds):
    X, density = all_kinds

    assert density.score(X) == pytest.approx(density.score_samples(X).sum())


@pytest.mark.parametrize("given", [True, False])
def test_a_target_is_one_more_column(given):
    X = few_levels()
    y = pd.Series(np.arange(30) % 3, name="grade")
    density = fitted(X, y)
    whole = X.assign(grade=y)

    scores = density.score_samples(X, y) if given else density.score_samples(whole)

    assert density.target_ == "grade"
    assert density.n_features_in_ == 2
    assert list(density.sample(2, random_state=0)) == ["a", "b", "grade"]
    assert set(density.orders_[:, -1]) == {2}, "it is drawn given all other cells"
    np.testing.assert_array_equal(scores, density.score_samples(whole))
    assert (density.score_samples(X) > scores).all(), "a row's parts are more probable"


# Draws


def test_drawn_cells_are_of_their_columns_type_and_range(all_kinds):
    X, density = all_kinds

    drawn = density.sample(200, random_state=0)

    pd.testing.assert_series_equal(drawn.dtypes, X.dtypes)
    for name in ["age", "length", "tenths", "day", "there", "took", "count", "holed"]:
        assert drawn[name].min() >= X[name].min()
        assert drawn[name].max() <= X[name].max()
    for name in ["job", "retired", "grade"]:
        assert set(drawn[name].dropna()) <= set(X[name].dropna())
    assert (drawn["tenths"] == drawn["tenths"].round(1)).all()
    assert (drawn["day"] == drawn["day"].dt.normalize()).all()
    assert drawn.drop(columns=["job", "holed"]).notna().all(axis=None)


def test_draws_follow_the_probabilities():
    X = few_levels()
    density = fitted(X, finetuner=FineTuner(max_steps=40))
    rows = pd.DataFrame(product(["p", "q", "r"], [True, False]), columns=[*"ab"])
    expected = np.exp(density.score_samples(rows))

    drawn = density.sample(4000, random_state=0).value_counts(normalize=True)

    share = np.array([drawn.get(tuple(row), 0.0) for row in rows.to_numpy()])
    error = np.sqrt(expected * (1 - expected) / 4000)
    assert (np.abs(share - expected) < 5 * error).all()


SUBSETS = [("job",), ("age", "grade"), ("holed", "day", "length"), ("there", "count")]


@pytest.mark.parametrize("names", SUBSETS)
def test_any_cells_can_be_given(all_kinds, names):
    X, density = all_kinds
    given = X.loc[X["job"].notna() & X["holed"].notna(), list(names)][:6]

    drawn = density.sample(6, given=given, random_state=0)

    for name in names:
        assert drawn[name].tolist() == given[name].tolist()
    pd.testing.assert_series_equal(drawn.dtypes, X.dtypes)


def test_one_given_row_is_for_all_draws(all_kinds):
    _, density = all_kinds

    drawn = density.sample(5, given={"age": 33, "job": "cook"}, random_state=0)

    assert drawn["age"].tolist() == [33] * 5
    assert drawn["job"].tolist() == ["cook"] * 5
    assert drawn["length"].nunique() == 5


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("retired", "false", False),
        ("age", "30", 30),
        ("day", "2024-02-01", pd.Timestamp("2024-02-01")),
        ("took", "0 days 00:05:00", pd.Timedelta(minutes=5)),
    ],
)
def test_a_given_text_is_the_value_that_it_says(all_kinds, name, text, expected):
    X, density = all_kinds

    drawn = density.sample(2, given={name: text}, random_state=0)

    assert drawn[name].tolist() == [expected] * 2
    assert drawn[name].dtype == X[name].dtype


def test_given_rows_may_be_of_polars(all_kinds):
    X, density = all_kinds
    given = X[["age", "length"]][:3]

    drawn = density.sample(3, given=pl.from_pandas(given), random_state=0)

    pd.testing.assert_frame_equal(drawn, density.sample(3, given=given, random_state=0))


def test_a_draw_depends_on_its_own_given_cells_alone(all_kinds):
    X, density = all_kinds
    given = X[["age", "grade"]].iloc[:16].reset_index(drop=True)
    other = given.copy()
    other.loc[1:, "age"] = given["age"].max()

    first, second = (
        density.sample(16, given=each, random_state=0) for each in (given, other)
    )

    pd.testing.assert_frame_equal(first[:1], second[:1])
    assert not first[1:].equals(second[1:])


def test_a_lower_temperature_draws_the_probable_more_often():
    X = few_levels()
    density = fitted(X, finetuner=FineTuner(max_steps=40))

    cold, warm = (
        density.sample(300, temperature=temperature, random_state=0)
        for temperature in (0.2, 1.0)
    )

    assert cold.value_counts().iloc[0] > warm.value_counts().iloc[0]


def test_the_same_seed_draws_the_same_rows(all_kinds):
    _, density = all_kinds

    drawn = density.sample(20, random_state=3)

    pd.testing.assert_frame_equal(density.sample(20, random_state=3), drawn)
    assert not density.sample(20, random_state=4).equals(drawn)


# Missing cells


def test_known_cells_stay_and_missing_ones_get_valid_values(all_kinds):
    X, density = all_kinds
    gone = np.random.RandomState(0).uniform(size=X.shape) < 0.3
    holed = X.mask(gone)

    filled = density.impute(holed)

    pd.testing.assert_series_equal(filled.dtypes, holed.dtypes)
    assert filled.notna().all(axis=None)
    for name in X:
        known = holed[name].notna()
        assert filled.loc[known, name].tolist() == holed.loc[known, name].tolist()
        if X[name].dtype.kind in "iufmM" and name != "grade":
            assert filled[name].min() >= X[name].min()
            assert filled[name].max() <= X[name].max()
        else:
            assert set(filled[name]) <= set(X[name].dropna())


def test_a_cell_is_filled_by_its_own_rows_known_cells(all_kinds):
    X, density = all_kinds
    holed = X.copy()
    holed.loc[::2, "grade"] = None
    holed.loc[::3, "length"] = None

    whole = density.impute(holed)

    pieces = pd.concat([density.impute(holed[i : i + 7]) for i in range(0, 40, 7)])
    pd.testing.assert_frame_equal(whole, pieces)
    order = np.random.RandomState(0).permutation(40)
    pd.testing.assert_frame_equal(density.impute(holed.iloc[order]), whole.iloc[order])


def test_a_filled_cell_is_the_mode_or_median_of_its_conditional(all_kinds):
    X, density = all_kinds
    holed = X.assign(grade=None, length=None)
    holed["grade"] = holed["grade"].astype(X["grade"].dtype)

    filled = density.impute(holed)

    modes = density.conditional(holed, "grade").idxmax(axis=1)
    assert filled["grade"].tolist() == modes.tolist()
    medians = density.conditional(holed, "length").median
    np.testing.assert_allclose(filled["length"].astype(float), medians, atol=1e-9)


def test_multiple_imputation_draws_all_of_a_rows_cells_together(all_kinds):
    X, density = all_kinds
    holed = X.assign(job=None, age=np.nan)

    first, second = density.impute(holed, n_draws=2, random_state=0)

    for filled in (first, second):
        assert filled["job"].notna().all()
        assert filled["length"].tolist() == X["length"].tolist()
    assert first["age"].tolist() != second["age"].tolist()


# One cell given the others


def test_a_conditional_is_a_distribution_over_the_columns_values(all_kinds):
    X, density = all_kinds

    levels = density.conditional(X, "grade")
    numbers = density.conditional(X, "length")

    assert list(levels) == ["a", "b", "c"]
    np.testing.assert_allclose(levels.sum(axis=1), 1.0)
    assert isinstance(numbers, NumberDistribution)
    assert len(numbers) == len(X)


def test_a_conditional_does_not_look_at_the_columns_own_cells(all_kinds):
    X, density = all_kinds

    own = density.conditional(X, "grade")

    other = density.conditional(X.assign(grade=X["grade"].iloc[::-1].array), "grade")
    pd.testing.assert_frame_equal(own, other)


# The rules of all estimators


def test_scores_depend_neither_on_the_other_rows_nor_on_their_order(all_kinds):
    X, density = all_kinds
    whole = density.score_samples(X)
    order = np.random.RandomState(0).permutation(len(X))

    np.testing.assert_allclose(
        density.score_samples(X.iloc[order]), whole[order], rtol=1e-12
    )
    alone = [density.score_samples(X[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(alone, whole[:5], rtol=1e-12)


def test_weights_are_repetitions():
    X = few_levels(12)
    weight = np.array([1, 2, 3] * 4)
    repeated = X.loc[np.repeat(X.index, weight)].sample(frac=1, random_state=0)

    weighted = LIFTDensity(finetuner=QUICK, random_state=0).fit(X, sample_weight=weight)

    same = fitted(repeated).score_samples(X)
    np.testing.assert_array_equal(weighted.score_samples(X), same)
    assert (fitted(X).score_samples(X) != same).any()


@pytest.mark.parametrize("way", ["folder", "pickle"])
def test_a_copy_says_and_draws_the_same(all_kinds, way, tmp_path):
    X, density = all_kinds
    if way == "folder":
        density.save(tmp_path)
        copied = load(tmp_path)
    else:
        copied = pickle.loads(pickle.dumps(density))

    np.testing.assert_array_equal(copied.score_samples(X), density.score_samples(X))
    pd.testing.assert_frame_equal(
        copied.sample(5, random_state=0), density.sample(5, random_state=0)
    )


def test_a_target_and_an_ensemble_are_saved_too(tmp_path):
    X = few_levels()
    tuner = FineTuner(max_steps=4, n_models=2)
    density = fitted(X, np.arange(30) % 2, finetuner=tuner)
    density.save(tmp_path)

    copied = load(tmp_path)

    assert copied.target_ == "target"
    np.testing.assert_array_equal(copied.score_samples(X), density.score_samples(X))


def test_a_clone_has_the_parameters_and_nothing_learnt(all_kinds):
    _, density = all_kinds

    copied = clone(density)

    assert copied.get_params()["finetuner__max_steps"] == 8
    assert not hasattr(copied, "rows_")


def test_an_array_is_a_table_too():
    X = np.random.RandomState(0).normal(size=(30, 3))
    density = fitted(X)

    drawn = density.sample(4, random_state=0)

    assert list(drawn) == ["x0", "x1", "x2"]
    assert np.isfinite(density.score_samples(drawn.to_numpy())).all()


def test_early_stopping_watches_the_probability_of_held_out_rows():
    tuner = FineTuner(n_epochs=3, early_stopping=True, n_models=1)

    density = fitted(few_levels(60), finetuner=tuner)

    monitored = [epoch["monitored"] for epoch in density.finetuner_.history_]
    assert len(monitored) == 3
    assert np.isfinite(monitored).all()
    assert max(monitored) < 0


def test_an_interrupted_fit_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    X = few_levels()
    expected = fitted(X).score_samples(X)
    tuner = clone(QUICK).set_params(checkpoint_dir=tmp_path, checkpoint_every=2)
    write, n_written = RowCorpus.write, 0

    def interrupted(self, *arguments):
        nonlocal n_written
        n_written += 1
        if n_written > 5:
            raise KeyboardInterrupt
        return write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RowCorpus, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted(X, finetuner=tuner)
    assert list(tmp_path.iterdir())
    density = fitted(X, finetuner=tuner)

    np.testing.assert_array_equal(density.score_samples(X), expected)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return saved_llama(tmp_path_factory.mktemp("llama"))


def test_any_causal_language_model_draws_valid_rows(llama):
    X = table_of_all_kinds(20)
    density = LIFTDensity(llama, finetuner=QUICK, random_state=0).fit(X)

    drawn = density.sample(9, given={"job": "nurse"}, random_state=0)

    pd.testing.assert_series_equal(drawn.dtypes, X.dtypes)
    assert set(drawn["job"]) == {"nurse"}
    assert np.isfinite(density.score_samples(drawn)).all()
    assert density.impute(X).notna().all(axis=None)


def test_answers_of_several_tokens_are_drawn_by_the_embedded_model():
    levels = [f"town {i}" for i in range(90)]
    X = pd.DataFrame({"town": levels * 2, "x": np.linspace(0, 1, 180)})
    X["town"] = X["town"].astype("category")
    density = fitted(X, encoder=RowEncoder(digits=3))

    drawn = density.sample(40, random_state=0)

    assert set(drawn["town"]) <= set(levels)
    assert drawn["town"].nunique() > 20
    towns = pd.DataFrame({"town": levels, "x": None})
    total = np.exp(density.score_samples(towns.astype({"town": X["town"].dtype}))).sum()
    assert total == pytest.approx(1.0, abs=1e-9)


def test_draws_follow_the_probabilities_of_long_answers_too(llama):
    X = few_levels()
    X["a"] = X["a"].map({"p": "one", "q": "one, two", "r": "onetwo"})
    encoder = names_and_numbers(shuffle_columns=False)
    density = LIFTDensity(
        llama, encoder=encoder, finetuner=FineTuner(max_steps=4), random_state=0
    ).fit(X)
    rows = pd.DataFrame(
        product(["one", "one, two", "onetwo"], [True, False]), columns=[*"ab"]
    )
    expected = np.exp(density.score_samples(rows))

    drawn = density.sample(3000, random_state=0).value_counts(normalize=True)

    share = np.array([drawn.get(tuple(row), 0.0) for row in rows.to_numpy()])
    assert expected.sum() == pytest.approx(1.0, abs=1e-6)
    assert np.abs(share - expected).max() < 5 * np.sqrt(0.25 / 3000)


# What can't be


WRONG = {
    "a column that is not there": ({"given": {"none": 1}}, "names the column 'none'"),
    "a level that was not met": ({"given": {"job": "pilot"}}, "'pilot' in row 0"),
    "no row": ({"given": [1, 2]}, "a mapping from names"),
    "no draws": ({"n_samples": 0}, "n_samples is a whole number"),
    "no temperature": ({"temperature": 0}, "temperature is a positive number"),
    "another kind": ({"given": {"age": "old"}}, "held numbers"),
    "half a year": ({"given": {"age": 30.5}}, "Give whole numbers"),
    "too few rows": (
        {"n_samples": 3, "given": pd.DataFrame({"age": [1, 2]})},
        "one for each of 3",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_of_sample_say_what_was_expected(all_kinds, arguments, message):
    _, density = all_kinds

    with pytest.raises((ValueError, TypeError), match=message):
        density.sample(**arguments)


REFUSED = {
    "free text": ({}, {"note": [f"note {i} of mine" for i in range(30)]}, "free text"),
    "a template": ({"encoder": RowEncoder(template="{a}")}, {}, "template="),
    "no columns": (
        {"encoder": RowEncoder(columns="none", shuffle_columns=False)},
        {},
        "columns='none'",
    ),
    "many digits": (
        {"encoder": RowEncoder(digits=4)},
        {"x": np.linspace(0, 1, 30)},
        "digits=4",
    ),
    "the reader": ({"model": "liftlearn:reader"}, {}, "every cell is an answer"),
    "all tokens": (
        {"finetuner": FineTuner(max_steps=2, constrained=False)},
        {},
        "constrained=False",
    ),
}


@pytest.mark.parametrize(
    ("parameters", "more", "message"), REFUSED.values(), ids=REFUSED
)
def test_what_can_t_be_learnt_is_refused(parameters, more, message):
    with pytest.raises(ValueError, match=message):
        fitted(few_levels().assign(**more), **parameters)


def test_in_a_fixed_order_no_cell_is_known_behind_one_that_is_not():
    X = few_levels()
    density = fitted(X, encoder=RowEncoder(shuffle_columns=False))

    density.sample(given={"a": "p"})
    with pytest.raises(ValueError, match="shuffle_columns"):
        density.sample(given={"b": True})
    with pytest.raises(ValueError, match="shuffle_columns"):
        density.conditional(X, "a")


def test_columns_of_one_name_are_numbered():
    X = few_levels().set_axis(["a", "a"], axis=1)
    density = fitted(X)

    drawn = density.sample(3, given={"a (2)": True}, random_state=0)

    assert list(drawn) == ["a", "a (2)"]
    assert drawn["a (2)"].tolist() == [True] * 3
    assert np.isfinite(density.score_samples(X)).all()


def test_periods_are_drawn_and_given():
    X = pd.DataFrame({"day": pd.period_range("2024-01-01", periods=30, freq="D")})
    density = fitted(X.assign(n=range(30)))

    drawn = density.sample(2, given={"day": X["day"][3]}, random_state=0)

    assert drawn["day"].tolist() == [X["day"][3]] * 2
    assert density.sample(5, random_state=0)["day"].dtype == X["day"].dtype


def test_a_column_of_one_value_and_one_of_none_are_learnt():
    X = few_levels().assign(one=7.5, none=None)
    density = fitted(X)

    drawn = density.sample(5, random_state=0)

    assert drawn["one"].tolist() == [7.5] * 5
    tenths = pd.DataFrame({"one": np.arange(-3000.0, 4000.0) / 10})
    alone = np.exp(fitted(X[["one"]]).score_samples(tenths))
    assert alone.sum() == pytest.approx(1.0, abs=1e-9)
    assert tenths["one"][alone.argmax()] == 7.5
    assert drawn["none"].isna().all()
    assert np.isfinite(density.score_samples(X)).all()
    with pytest.raises(ValueError, match="missing in fit"):
        density.conditional(X, "none")


def test_the_prompt_of_all_rows_is_the_task():
    density = fitted(few_levels(), encoder=RowEncoder(task="People of a town."))

    whole = density.score_samples(few_levels())

    lm = density.language_model_
    assert isinstance(lm, LanguageModel)
    density.encoder_.task = None
    assert (density.score_samples(few_levels()) != whole).all()


def test_spaces_around_names_stay_where_others_are_twins():
    X = pd.DataFrame([[0, 1, 2], [1, 0, 2]], columns=[" ", "b", "b"])

    density = fitted(X)

    assert [*density.sample(2)] == [*density.feature_names_in_] == [" ", "b", "b (2)"]
    assert [*density.encoder_.column_kinds_] == [" ", "b", "b (2)"]


@pytest.mark.parametrize(
    "names", [[0, 0], [None, None], [1.5, 1.5], [("a", 1), ("a", 1)], [np.nan, None]]
)
@pytest.mark.parametrize("target", [None, ["r", "b", "r"]])
def test_columns_of_one_name_are_refused_before_any_draw(names, target):
    X = pd.DataFrame([[False, True], [True, False], [False, False]])
    X.columns = pd.Index(names, tupleize_cols=False, dtype=object)

    with pytest.raises(ValueError, match=r"distinct names, but 2 are called"):
        LIFTDensity().fit(X, target)


@pytest.mark.parametrize(
    "numbers", [[0, 1e-310], [0, 5e-324], [1e-310, 2e-310, 3e-310], [0.0, 1e-310, 1.0]]
)
def test_numbers_of_any_smallness_have_finite_densities(numbers):
    X = pd.DataFrame({"a": numbers})
    density = LIFTDensity(finetuner=FineTuner(max_steps=1), random_state=0).fit(X)

    assert np.isfinite(density.score_samples(X)).all()
    assert np.isfinite(density.score_samples(density.sample(5, random_state=0))).all()


@pytest.mark.parametrize("names", [[1], [2, 0], [0, 2], [1.0], [("a", 1)]])
def test_a_target_beside_other_names_than_texts_gets_a_name_of_its_own(names):
    X = pd.DataFrame([[False] * len(names), [True] * len(names)])
    X.columns = pd.Index(names, tupleize_cols=False, dtype=object)
    density = LIFTDensity(finetuner=FineTuner(max_steps=1), random_state=0)

    drawn = density.fit(X, ["r", "b"]).sample(3, random_state=0)

    assert drawn.columns.tolist()[:-1] == names
    assert drawn.columns.is_unique
    assert {*drawn.iloc[:, -1]} <= {"r", "b"}


@pytest.mark.parametrize(
    "dtype", ["Sparse[int]", "Sparse[float]", "int32[pyarrow]", "Int64", "float32"]
)
def test_cells_of_any_type_can_be_given(dtype):
    X = pd.DataFrame({"a": pd.array([0, 5, 0, 7], dtype=dtype), "b": [1.0, 2, 3, 4]})
    density = LIFTDensity(finetuner=FineTuner(max_steps=1), random_state=0).fit(X)
    drawn = density.sample(5, random_state=0)

    again = density.sample(5, given=drawn[["a"]], random_state=1)

    pd.testing.assert_series_equal(again["a"], drawn["a"])
    assert again["a"].dtype == X["a"].dtype


@pytest.mark.parametrize(
    "cells",
    [
        pd.period_range("2020-01-01", periods=4, freq="D"),
        pd.array([0, 1, 0, 2], dtype="Sparse[int]"),
        pd.array([1, 2, None, 4], dtype="int32[pyarrow]"),
        pd.array([1.5, None, 3, 4], dtype="double[pyarrow]"),
        pd.array([1.5, np.nan, 0, 4], dtype="Sparse[float]"),
        pd.array(["x", None, "x", "y"], dtype="string[pyarrow]"),
        pd.Categorical(["x", None, "x", "y"]),
    ],
)
def test_a_filled_table_keeps_its_types_and_its_known_cells(cells):
    X = pd.DataFrame({"a": cells, "b": [1.0, 2, np.nan, 4]}, index=[5, 6, 7, 9])
    density = LIFTDensity(finetuner=FineTuner(max_steps=1), random_state=0).fit(X)

    filled = density.impute(X)

    pd.testing.assert_series_equal(filled.dtypes, X.dtypes)
    assert filled.index.equals(X.index)
    assert not filled.isna().any(axis=None)
    known = X["a"].notna().to_numpy()
    assert filled["a"][known].tolist() == X["a"][known].tolist()
