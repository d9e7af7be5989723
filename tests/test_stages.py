"""Fits with validation rows of one's own, and fits that go on from earlier ones."""

import copy
import pickle

import numpy as np
import pandas as pd
import peft
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.metrics import log_loss, mean_absolute_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny import (
    BOTH_TASKS,
    FixedScores,
    are_equal,
    blobs,
    labels_of,
    mixed_table,
    numbers_of,
    outputs,
    weights_of,
)

import liftlearn
from liftlearn import (
    Ensemble,
    FineTuner,
    LabelDecoder,
    LIFTClassifier,
    LIFTRegressor,
    NumberDecoder,
    RowEncoder,
)

ESTIMATORS = {"classes": LIFTClassifier, "numbers": LIFTRegressor}
TARGETS = {"classes": labels_of, "numbers": numbers_of}


def tables(task):
    """Return rows to learn and rows to validate on, with their targets."""
    table, new = mixed_table(), mixed_table(9, seed=1)
    return table, TARGETS[task](table), new, TARGETS[task](new)


def quick(task="classes", **parameters):
    """Return an estimator that takes six steps, in two epochs of 24 rows."""
    names = FineTuner().get_params().keys() & parameters.keys()
    settings = {name: parameters.pop(name) for name in names}
    tuner = FineTuner(**{"n_epochs": 2, "batch_size": 8, "n_models": 1, **settings})
    defaults = {"finetuner": tuner, "random_state": 0}
    return ESTIMATORS[task](**{**defaults, **parameters})


def members_of(estimator):
    lm = estimator.language_model_
    return [*getattr(lm, "members", [lm])]


def same_weights(estimator, other):
    return all(
        are_equal(weights_of(one), weights_of(two))
        for one, two in zip(members_of(estimator), members_of(other), strict=True)
    )


# Validation rows


@pytest.fixture(scope="module", params=ESTIMATORS)
def validated(request):
    """Return an estimator that was fitted with validation rows, and these."""
    table, target, *new = tables(request.param)
    estimator = quick(request.param).fit(table, target, X_val=new[0], y_val=new[1])
    return estimator, *new


@BOTH_TASKS
@pytest.mark.parametrize("model", ["embedded", "with dropout", "with shots"])
def test_validation_rows_that_decide_nothing_leave_the_model_as_it_was(
    task, model, gpt2_folder
):
    options = {
        "embedded": {},
        "with dropout": {"model": gpt2_folder, "constrained": False},
        "with shots": {"model": gpt2_folder, "n_shots": 2},
    }[model]
    table, target, *new = tables(task)
    if model != "embedded":  # bytes are slow
        table, new[0] = table[["size", "place"]], new[0][["size", "place"]]
    streams = [np.random.RandomState(3) for _ in range(2)]
    plain = quick(task, **options).set_params(random_state=streams[0])
    watched = clone(plain).set_params(random_state=streams[1])

    plain.fit(table, target)
    watched.fit(table, target, X_val=new[0], y_val=new[1])

    assert same_weights(plain, watched)
    assert streams[0].randint(2**31) == streams[1].randint(2**31)
    losses = [[e["loss"] for e in x.finetuner_.history_] for x in (plain, watched)]
    assert losses[0] == losses[1]


def test_the_history_tells_how_the_model_did_on_validation_rows(validated):
    estimator, table, target = validated

    history = estimator.finetuner_.history_

    assert len(history) == 2
    assert [epoch["monitored"] for epoch in history] == [None, None]
    if isinstance(estimator, LIFTClassifier):
        plain = copy.deepcopy(estimator)
        plain.decoder_.temperature_ = 1.0
        loss = log_loss(target, plain.predict_proba(table))
    else:
        prompts = estimator.encoder_.transform(table)
        answers = estimator.decoder_.answers_
        scores = estimator.language_model_.score(prompts, answers.texts)
        nearest = np.abs(answers.numbers - target[:, None]).argmin(axis=1)
        loss = -scores[np.arange(len(target)), nearest].mean()
        error = mean_absolute_error(target, estimator.predict(table))
        assert history[-1]["val_score"] == pytest.approx(-error, rel=1e-4)
    # Training rounds to float32, use does not.
    assert history[-1]["val_loss"] == pytest.approx(loss, rel=1e-4)


def test_the_score_of_classes_is_the_accuracy():
    table, target, X_val, y_val = tables("classes")
    classifier = quick(decoder=LabelDecoder(temperature=1.5))
    classifier.fit(table, target, X_val=X_val, y_val=y_val)
    found = classifier.finetuner_.history_[-1]["val_score"]
    assert found == pytest.approx(classifier.score(X_val, y_val))


def test_without_validation_rows_the_history_has_none_of_them():
    table, target, *_ = tables("classes")
    history = quick().fit(table, target).finetuner_.history_
    assert [(e["val_loss"], e["val_score"]) for e in history] == [(None, None)] * 2


def test_a_validation_row_counts_once_whatever_its_class_weighs():
    X_val, y_val = blobs(9, seed=1)
    plain = LabelDecoder(temperature=1.0)
    classifier = quick(class_weight={0: 9, 1: 1}, decoder=plain)
    classifier.fit(*blobs(16), X_val=X_val, y_val=y_val)
    loss = log_loss(y_val, classifier.predict_proba(X_val))
    assert classifier.finetuner_.history_[-1]["val_loss"] == pytest.approx(loss, 1e-4)


class Unheld(FineTuner):
    """Keeps what it was given to learn, and which rows were held out."""

    def finetune(self, lm, corpus, rng, *, metric, verbose=0):
        self.asked_ = []

        def judge(lm, rows):
            self.asked_.append(rows)
            return metric(lm, rows)

        members = super().finetune(lm, corpus, rng, metric=judge, verbose=verbose)
        self.held_out_ = [member.held_out for member in members]
        return members


@BOTH_TASKS
def test_early_stopping_watches_validation_rows_and_learns_from_all_others(task):
    table, target, X_val, y_val = tables(task)
    tuner = Unheld(
        n_epochs=8,
        batch_size=8,
        learning_rate=0.02,
        n_models=1,
        early_stopping=True,
        n_iter_no_change=2,
    )
    estimator = quick(task, finetuner=tuner)

    estimator.fit(table, target, X_val=X_val, y_val=y_val)

    tuner = estimator.finetuner_
    scores = [epoch["val_score"] for epoch in tuner.history_]
    assert [epoch["monitored"] for epoch in tuner.history_] == scores
    assert len(scores) == min(8, np.argmax(scores) + 1 + 2)
    assert tuner.held_out_ == [None]
    assert tuner.n_steps_ == 3 * len(scores)  # 24 rows by eight
    assert all(len(rows) == len(X_val) for rows in tuner.asked_)
    if task == "numbers":
        error = mean_absolute_error(y_val, estimator.predict(X_val))
        assert -error == pytest.approx(max(scores), rel=1e-3)


@pytest.mark.parametrize("n_models", [1, 2])
@pytest.mark.parametrize("model", ["embedded", "another"])
def test_the_temperature_is_fitted_to_validation_rows(n_models, model, gpt2_folder):
    X, y = blobs(24)
    X_val, y_val = blobs(30, seed=1)
    options = {} if model == "embedded" else {"model": gpt2_folder}
    classifier = quick(n_models=n_models, max_steps=2, **options)

    classifier.fit(X, y, X_val=X_val, y_val=y_val)

    decoder = copy.deepcopy(classifier.decoder_).fit(y)
    prompts = classifier.encoder_.transform(X_val)
    parts = [(lm, prompts, y_val, np.ones(30)) for lm in members_of(classifier)]
    expected = decoder.calibrate(parts).temperature_
    assert classifier.decoder_.temperature_ == pytest.approx(expected, rel=1e-9)
    assert decoder.temperature_ != copy.deepcopy(decoder).fit(y).temperature_


def test_a_temperature_of_the_users_own_stays():
    X, y = blobs(16)
    classifier = quick(decoder=LabelDecoder(temperature=1.7), max_steps=1)
    classifier.fit(X, y, X_val=X, y_val=y)
    assert classifier.decoder_.temperature_ == 1.7


def test_several_members_hold_no_rows_out_and_choose_a_schedule_by_validation_rows():
    table = pd.DataFrame({"a": np.arange(20.0)})
    X_val = table[:7] + 0.5
    regressor = quick("numbers", finetuner=Unheld(n_epochs=2, n_models=2))

    regressor.fit(table, table["a"], X_val=X_val, y_val=X_val["a"])

    tuner = regressor.finetuner_
    assert tuner.held_out_ == [None, None]
    # After each epoch, and of the short and the full schedule.
    assert len(tuner.asked_) >= len(tuner.history_) + 2
    assert all(len(rows) == 7 for rows in tuner.asked_)


def test_a_finetuner_of_ones_own_finds_validation_rows_in_its_corpus():
    X, y = blobs(16)
    X_val, y_val = blobs(6, seed=1)
    given = []

    class Own:
        def finetune(self, lm, corpus, rng, *, metric, verbose):
            given.append((corpus.validation, metric(lm, corpus.validation)))
            return lm

    classifier = LIFTClassifier(finetuner=Own(), random_state=0)
    classifier.fit(X, y, X_val=X_val, y_val=y_val)

    (rows, score), *_ = given
    assert rows.target.tolist() == y_val.tolist()
    assert rows.table.equals(X_val)
    assert rows.weight.tolist() == [1.0] * 6
    assert 0 <= score <= 1
    decoder = copy.deepcopy(classifier.decoder_).fit(y)
    prompts = classifier.encoder_.transform(X_val)
    decoder.calibrate([(classifier.language_model_, prompts, y_val, np.ones(6))])
    assert classifier.decoder_.temperature_ == pytest.approx(decoder.temperature_)


@BOTH_TASKS
def test_a_table_that_is_read_keeps_its_predictions_and_has_no_history(task):
    table, target, X_val, y_val = tables(task)
    table, X_val = table[["size", "place"]], X_val[["size", "place"]]
    reader = ESTIMATORS[task](n_shots="all", random_state=0).fit(table, target)
    expected = outputs(reader, X_val)

    reader.fit(table, target, X_val=X_val, y_val=y_val)

    assert reader.finetuner_.history_ == []
    np.testing.assert_array_equal(outputs(reader, X_val), expected)


def test_no_epochs_leave_no_history():
    X, y = blobs(16)
    classifier = quick(n_epochs=0, early_stopping=True)
    assert classifier.fit(X, y, X_val=X, y_val=y).finetuner_.history_ == []


CONTAINERS = {
    "an array": lambda X: X.to_numpy(),
    "lists": lambda X: X.to_numpy().tolist(),
    "polars": pl.from_pandas,
    "columns in another order": lambda X: X.assign(c=0)[["a", "b"]],
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("container", CONTAINERS)
def test_validation_rows_are_read_as_new_rows_are(container):
    X, y = blobs(16)
    X_val, y_val = blobs(6, seed=1)
    classifier = quick(max_steps=1, n_epochs=1)

    found = classifier.fit(X, y, X_val=CONTAINERS[container](X_val), y_val=list(y_val))

    (epoch,) = found.finetuner_.history_
    (expected,) = classifier.fit(X, y, X_val=X_val, y_val=y_val).finetuner_.history_
    assert epoch["val_loss"] == expected["val_loss"]


X, Y = blobs(12)
NAMES = np.array(["no", "yes"])
WRONG = {
    "no target": ({"X_val": X}, ValueError, "got X_val without y_val"),
    "no table": ({"y_val": Y}, ValueError, "got y_val without X_val"),
    "too few targets": ({"X_val": X, "y_val": Y[1:]}, ValueError, r"\[12, 11\]"),
    "another label": (
        {"X_val": X, "y_val": Y + 1},
        ValueError,
        r"y_val holds labels that fit has not seen: \[2\]",
    ),
    "texts for numbers": (
        {"X_val": X, "y_val": Y.astype(str)},
        ValueError,
        "y_val holds labels",
    ),
    "words": ({"X_val": X, "y_val": NAMES[Y]}, ValueError, "'yes'"),
    "a missing label": (
        {"X_val": X, "y_val": [None, *Y[1:]]},
        ValueError,
        "X_val and y_val: .*the label of row 0 is missing",
    ),
    "another column": (
        {"X_val": X.rename(columns={"a": "z"}), "y_val": Y},
        ValueError,
        "(?s)X_val and y_val: .*feature names",
    ),
    "a column less": ({"X_val": X[["a"]], "y_val": Y}, ValueError, "X_val and y_val"),
    "another kind": (
        {"X_val": X.assign(a="far"), "y_val": Y},
        (ValueError, TypeError),
        "X_val and y_val: .*'a'",
    ),
    "infinity": ({"X_val": X.assign(a=np.inf), "y_val": Y}, ValueError, "X_val and"),
    "no rows": ({"X_val": X[:0], "y_val": Y[:0]}, ValueError, "X_val and y_val"),
    "a number": ({"X_val": 3, "y_val": Y}, (TypeError, ValueError), "X_val and y_val"),
    "one column": ({"X_val": X["a"], "y_val": Y}, (TypeError, ValueError), "X_val and"),
    "a dict": ({"X_val": {"a": [1]}, "y_val": [0]}, TypeError, "X_val and y_val"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_validation_rows_are_told(case):
    rows, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        quick(max_steps=1).fit(X, Y, **rows)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [(["a"] * 12, "numbers as y, got 'a'"), ([np.nan] * 12, "NaN"), (None, "without")],
)
def test_wrong_validation_numbers_are_told(numbers, words):
    with pytest.raises(ValueError, match=words):
        quick("numbers", max_steps=1).fit(X, 1.0 * Y, X_val=X, y_val=numbers)


def test_a_validation_row_that_is_too_long_is_told(gpt2_folder):
    table = pd.DataFrame({"note": ["short", "shorter"] * 6})
    long = pd.DataFrame({"note": ["short", "long " * 400]})
    classifier = quick(model=gpt2_folder, max_steps=1)
    with pytest.raises(ValueError, match=r"X_val and y_val: Row 1 is .* tokens long"):
        classifier.fit(table, Y, X_val=long, y_val=[0, 1])


@pytest.mark.parametrize(
    "labels", [Y.astype(bool), 1.0 * Y, Y.astype(object), Y.astype(np.int8)]
)
def test_equal_labels_of_another_type_are_the_same_labels(labels):
    epoch, expected = (
        quick(max_steps=1).fit(X, Y, X_val=X, y_val=given).finetuner_.history_[-1]
        for given in (labels, Y)
    )
    assert epoch["val_score"] == expected["val_score"]
    assert epoch["val_loss"] == expected["val_loss"]


@pytest.mark.parametrize("unit", ["s", "us"])
def test_dates_are_the_same_labels_in_any_unit(unit):
    days = np.array(["2024-01-01", "2025-01-01"], "datetime64[ns]")[Y]
    classifier = quick(max_steps=1)
    classifier.fit(X, days, X_val=X, y_val=days.astype(f"datetime64[{unit}]"))
    classifier.conformalize(X, days.astype(f"datetime64[{unit}]"))
    expected = 1 - classifier.predict_proba(X)[np.arange(12), Y]
    np.testing.assert_allclose(classifier.conformity_scores_, expected)


def test_texts_are_no_labels_to_conform_to_where_numbers_were():
    classifier = quick(max_steps=1).fit(X, Y)
    with pytest.raises(ValueError, match=r"y holds labels .*'1'"):
        classifier.conformalize(X, Y.astype(str))


def test_numbers_beyond_the_grid_count_as_its_ends():
    regressor = quick("numbers", max_steps=1, decoder=NumberDecoder(low=0, high=1))
    far, near = (
        regressor.fit(X, 1.0 * Y, X_val=X, y_val=y_val).finetuner_.history_[-1]
        for y_val in (1e6 * (Y - 0.5), 1.0 * Y)
    )
    assert far["val_loss"] == near["val_loss"]
    assert far["val_score"] < near["val_score"]


def test_a_pipeline_scales_validation_rows_as_it_scales_the_others():
    X_val, y_val = blobs(6, seed=1)
    scaler = StandardScaler().set_output(transform="pandas")
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = quick(max_steps=1).set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(scaler, classifier, transform_input=["X_val"])
        pipeline.fit(X, Y, X_val=X_val, y_val=y_val)

    alone = quick(max_steps=1).fit(
        scaler.fit_transform(X), Y, X_val=scaler.transform(X_val), y_val=y_val
    )
    found, expected = (x.finetuner_.history_[-1] for x in (pipeline[-1], alone))
    assert found["val_loss"] == expected["val_loss"]
    assert found["val_score"] == expected["val_score"]


def test_a_fit_with_validation_rows_is_saved_with_its_history(validated, tmp_path):
    estimator, table, _ = validated
    estimator.save(tmp_path)
    loaded = liftlearn.load(tmp_path)
    assert loaded.finetuner_.history_ == estimator.finetuner_.history_
    np.testing.assert_array_equal(outputs(loaded, table), outputs(estimator, table))


class Interrupted(RowEncoder):
    """Stops training when rows have been written so many times."""

    n_left = 3

    def augment(self, X, rng, progress=0.0):
        type(self).n_left -= 1
        if self.n_left == 0:
            raise KeyboardInterrupt
        return super().augment(X, rng, progress)


def test_a_fit_is_resumed_with_the_same_validation_rows_alone(tmp_path):
    X_val, y_val = blobs(6, seed=1)
    classifier = quick(
        encoder=Interrupted(),
        n_epochs=6,
        checkpoint_dir=tmp_path,
        checkpoint_every=1,
        early_stopping=True,
    )
    Interrupted.n_left = 3
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(X, Y, X_val=X_val, y_val=y_val)

    for others in ({}, {"X_val": X_val, "y_val": 1 - y_val}, {"X_val": X, "y_val": Y}):
        with pytest.raises(ValueError, match=r"with other .*validation rows"):
            classifier.fit(X, Y, **others)
    resumed = classifier.fit(X, Y, X_val=X_val, y_val=y_val)
    whole = clone(classifier).set_params(finetuner__checkpoint_dir=None)
    whole.fit(X, Y, X_val=X_val, y_val=y_val)
    assert same_weights(resumed, whole)
    scores = [[e["val_loss"] for e in c.finetuner_.history_] for c in (resumed, whole)]
    assert scores[0] == scores[1]


# Warm starts


@pytest.fixture(scope="module", params=[1, 2], ids=["one member", "two members"])
def first_stage(request):
    """Return a classifier that may go on, and was fitted once."""
    classifier = quick(n_models=request.param, learning_rate=0.01, warm_start=True)
    return classifier.fit(mixed_table(), labels_of(mixed_table()))


@pytest.fixture
def first(first_stage):
    """Return a copy of it, which shares its models."""
    return copy.copy(first_stage).set_params(finetuner=clone(first_stage.finetuner))


def test_a_second_fit_of_no_steps_has_the_weights_of_the_first(first, first_stage):
    first.set_params(finetuner__max_steps=0).fit(X, Y)
    assert same_weights(first, first_stage)


def test_each_member_goes_on_from_itself(first, first_stage):
    first.set_params(finetuner__learning_rate=1e-9).fit(X, Y)

    after, before = members_of(first), members_of(first_stage)
    assert len(after) == len(before)
    for i, member in enumerate(after):
        weights = weights_of(member)
        apart = [
            max(
                float((weight - other[name]).abs().max())
                for name, weight in weights.items()
            )
            for other in map(weights_of, before)
        ]
        assert np.argmin(apart) == i
        assert 0 < apart[i] < 1e-6


def test_columns_and_classes_may_differ_from_those_of_the_first_fit(first):
    table = pd.DataFrame({"hue": ["red", "blue"] * 8, "deep": np.arange(16)})
    labels = np.array([3, 5, 8, 13])[np.arange(16) % 4]

    first.fit(table, labels)

    assert first.classes_.tolist() == [3, 5, 8, 13]
    assert first.feature_names_in_.tolist() == ["hue", "deep"]
    assert first.predict_proba(table).shape == (16, 4)
    assert not hasattr(first, "conformity_scores_")


def test_a_second_fit_leaves_the_models_of_the_first_as_they_were(first, first_stage):
    table = mixed_table()
    before = first_stage.predict_proba(table)
    first.fit(X, Y)
    np.testing.assert_array_equal(first_stage.predict_proba(table), before)


@BOTH_TASKS
def test_a_first_fit_is_what_it_is_without_a_warm_start(task):
    table, target, *_ = tables(task)
    warm = quick(task, warm_start=True).fit(table, target)
    assert same_weights(warm, quick(task).fit(table, target))


def test_without_a_warm_start_the_first_fit_is_forgotten(first):
    first.set_params(warm_start=False).fit(X, Y)
    fresh = clone(first).fit(X, Y)
    assert same_weights(first, fresh)


def test_a_clone_begins_afresh(first):
    fresh = clone(first)
    assert fresh.warm_start
    assert same_weights(
        fresh.fit(X, Y), clone(first).set_params(warm_start=False).fit(X, Y)
    )


def test_regressors_go_on_too():
    regressor = quick("numbers", n_models=2, warm_start=True)
    regressor.fit(mixed_table(), numbers_of(mixed_table()))
    before = members_of(regressor)
    regressor.set_params(finetuner__max_steps=0).fit(X, 1.0 * Y)
    for one, two in zip(members_of(regressor), before, strict=True):
        assert are_equal(weights_of(one), weights_of(two))
    assert regressor.predict(X).min() >= -0.02
    assert regressor.predict(X).max() <= 1.02


def there_and_back(classifier, tmp_path, way):
    if way == "pickle":
        return pickle.loads(pickle.dumps(classifier))
    if way == "a deep copy":
        return copy.deepcopy(classifier)
    classifier.save(tmp_path / "folder")
    return liftlearn.load(tmp_path / "folder")


@pytest.mark.parametrize("way", ["a folder", "pickle", "a deep copy"])
def test_what_was_stored_goes_on_as_what_was_not(first, tmp_path, way):
    stored = there_and_back(first, tmp_path, way)
    # The model was given no device, and wants none.
    assert same_weights(stored.fit(X, Y), first.fit(X, Y))
    np.testing.assert_array_equal(stored.predict_proba(X), first.predict_proba(X))


def test_a_second_fit_that_fails_leaves_the_first(first, first_stage):
    with pytest.raises(ValueError, match="diverged"):
        first.set_params(finetuner__learning_rate=1e30).fit(X, Y)
    assert first.language_model_ is first_stage.language_model_
    assert first.classes_.tolist() == ["low", "mid", "top"]
    first.set_params(finetuner__learning_rate=0.01).fit(X, Y)


def test_one_member_is_the_start_of_several():
    classifier = quick(n_models=1, learning_rate=0.05, warm_start=True).fit(X, Y)
    (start,) = members_of(classifier)
    classifier.set_params(finetuner__n_models=2, finetuner__learning_rate=1e-9)
    classifier.fit(X, Y)
    assert len(members_of(classifier)) == 2
    for member in members_of(classifier):
        for name, weight in weights_of(member).items():
            assert float((weight - weights_of(start)[name]).abs().max()) < 1e-6


def test_all_members_go_on_where_their_number_is_left_open():
    classifier = quick(n_models=3, max_steps=1, warm_start=True).fit(X, Y)
    classifier.set_params(finetuner__n_models="auto").fit(X, Y)  # few rows: else one
    assert len(members_of(classifier)) == 3
    assert classifier.finetuner_.n_models_ == 3


def test_members_that_go_on_use_validation_rows():
    classifier = quick(n_models=2, max_steps=1, warm_start=True).fit(X, Y)
    classifier.set_params(finetuner=Unheld(n_epochs=1)).fit(X, Y, X_val=X, y_val=Y)
    assert classifier.finetuner_.held_out_ == [None, None]
    assert all(e["val_loss"] > 0 for e in classifier.finetuner_.history_)


def test_a_small_table_is_learnt_where_the_fit_may_go_on(monkeypatch):
    monkeypatch.setattr("liftlearn._finetuner._tuner.steps_by_table", lambda *_: 2)
    classifier = LIFTClassifier(random_state=0).fit(X, Y)
    assert classifier.model_ == "liftlearn:reader"
    for _ in range(2):
        classifier = clone(classifier).set_params(warm_start=True).fit(X, Y)
        assert classifier.model_ is None
        assert classifier.finetuner_.n_steps_ == 2


@BOTH_TASKS
def test_what_tuned_nothing_cannot_be_gone_on_from(task):
    reader = ESTIMATORS[task](n_shots="all", warm_start=True, random_state=0)
    reader.fit(X, Y)
    assert reader.model_ == "liftlearn:reader"  # that was asked for
    with pytest.raises(ValueError, match=r"read its rows .* n_shots=0"):
        reader.fit(X, Y)
    assert reader.set_params(warm_start=False).fit(X, Y).n_shots_ == 12


@pytest.mark.parametrize("n_models", [1, 3])
def test_more_or_fewer_members_than_go_on_are_refused(n_models):
    classifier = quick(n_models=2, max_steps=1, warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match=rf"n_models={n_models}, but 2 members"):
        classifier.set_params(finetuner__n_models=n_models).fit(X, Y)


def test_another_model_than_that_of_the_first_fit_is_refused(first, gpt2_folder):
    with pytest.raises(ValueError, match=r"tuned from model=None\. Set that again"):
        first.set_params(model=gpt2_folder).fit(X, Y)


def test_another_device_than_that_of_the_first_fit_is_refused():
    classifier = quick(max_steps=1, warm_start=True).fit(X, Y)
    classifier.language_model_.model.to("meta")  # as if it were elsewhere
    with pytest.raises(ValueError, match=r"device='cpu', .*load\(folder, device='cpu'"):
        classifier.set_params(device="cpu").fit(X, Y)


def test_the_same_device_by_its_name_goes_on(first, first_stage):
    first.set_params(device="cpu:0", finetuner__max_steps=0).fit(X, Y)
    assert same_weights(first, first_stage)


class Own:
    """A fine-tuner of one's own, which gives what it is made with."""

    def __init__(self, tuned=None):
        self.tuned = tuned
        self.given = []

    def finetune(self, lm, corpus, rng, *, metric, verbose):
        self.given.append(lm)
        return self.tuned or [(lm, None), (lm, None)]


def test_a_finetuner_of_ones_own_is_given_its_members():
    classifier = LIFTClassifier(finetuner=Own(), warm_start=True).fit(X, Y)
    members = classifier.language_model_
    classifier.fit(X, Y)
    (given,) = classifier.finetuner_.given
    assert given is members
    assert isinstance(given, Ensemble)


def test_what_is_no_language_model_cannot_be_gone_on_from():
    tuner = Own(FixedScores(np.log([0.5, 0.5])))
    classifier = LIFTClassifier(finetuner=tuner, warm_start=True).fit(X, Y)
    with pytest.raises(TypeError, match=r"LanguageModel, .* gave a FixedScores"):
        classifier.fit(X, Y)


@pytest.mark.parametrize("warm_start", ["yes", 1, None, np.array([True, False])])
def test_a_warm_start_is_true_or_false(warm_start):
    with pytest.raises(ValueError, match="'warm_start' parameter"):
        quick(warm_start=warm_start).fit(X, Y)


# Warm starts of adapters


def lora(**options):
    return peft.LoraConfig(**{"r": 2, "target_modules": "all-linear", **options})


@pytest.fixture
def adapted(gpt2_folder):
    """Return a classifier of two members with adapters, which may go on."""
    classifier = quick(
        model=gpt2_folder,
        adapter=lora(),
        n_models=2,
        max_steps=1,
        mixed_precision="no",
        warm_start=True,
    )
    return classifier.fit(X, Y)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("adapter", ["auto", lora()], ids=["auto", "the same"])
def test_each_member_goes_on_with_its_adapter(adapted, stored, adapter, tmp_path):
    if stored:
        adapted = there_and_back(adapted, tmp_path, "a folder")
    before = members_of(adapted)
    scores = [lm.score(["x is 3. y?"], ["a", "b"]) for lm in before]
    adapted.set_params(finetuner__adapter=adapter, finetuner__max_steps=0)

    adapted.fit(X.assign(c=1.0), NAMES[Y])

    for lm, former, score in zip(members_of(adapted), before, scores, strict=True):
        assert lm._base is former._base  # its weights are shared, nothing is merged
        np.testing.assert_array_equal(lm.score(["x is 3. y?"], ["a", "b"]), score)


@pytest.mark.parametrize("adapter", [None, lora(r=3)], ids=["none", "another"])
def test_another_adapter_begins_after_the_first_is_merged(adapted, adapter):
    before = members_of(adapted)
    scores = [lm.score(["x is 3. y?"], ["a", "b"]) for lm in before]
    adapted.set_params(finetuner__adapter=adapter, finetuner__max_steps=0).fit(X, Y)
    for lm, score in zip(members_of(adapted), scores, strict=True):
        np.testing.assert_allclose(
            lm.score(["x is 3. y?"], ["a", "b"]), score, rtol=1e-4
        )
