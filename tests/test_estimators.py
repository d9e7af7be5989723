import copy
import math
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from tiny import (
    BOTH_TASKS,
    blobs,
    fitted_problem,
    labels_of,
    mixed_table,
    numbers_of,
    outputs,
    problem,
    short_classifier,
    short_regressor,
)

from liftlearn import (
    Ensemble,
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    NumberDecoder,
    RowEncoder,
)

# What a law says of a fit, it says of a short one.
CODES_OR_LABELS = pytest.mark.parametrize("words", ["codes", "labels"])
GLOBAL = check_random_state(None)  # numpy's own stream
# Labels


@CODES_OR_LABELS
@pytest.mark.parametrize("kind", [int, str])
def test_labels_that_begin_one_another_each_win_a_row(kind, words):
    rng = np.random.RandomState(0)
    index = np.arange(30) % 3
    table = pd.DataFrame({"number": index * 10.0 + rng.rand(30)})
    labels = np.array([1, 12, 123]).astype(kind)[index]

    # Over seeds each row's own label leads by .6 of the probability, give or take .1.
    classifier = LIFTClassifier(
        finetuner=FineTuner(n_epochs=30, learning_rate=3e-3, n_models=1),
        decoder=LabelDecoder(words=words),
        random_state=0,
    ).fit(table, labels)

    proba = classifier.predict_proba(table)
    assert classifier.classes_.tolist() == [kind(1), kind(12), kind(123)]
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    assert set(classifier.predict(table)) == set(labels)
    np.testing.assert_allclose(classifier.predict_log_proba(table), np.log(proba))


LABELS = {
    "separators": ["a", "a, b", "a. What is y?", " is ", "y0", "c? x1 53"],
    "scripts": ["да", "нет", "はい", "いいえ", "نعم", "🙂"],
    "control marks": ["</s>", "<|endoftext|>", "<s>", "<pad>"],
    "spaces": ["", " ", "  ", "a\nb", "a b"],
    "booleans": [False, True],
    "floats": [-1.0, 0.0, 2.0],
}


@CODES_OR_LABELS
@pytest.mark.parametrize("case", LABELS)
def test_labels_of_any_kind_come_back_as_they_went_in(case, words):
    labels = np.array(LABELS[case] * 3)
    table = mixed_table(len(labels))

    classifier = short_classifier(decoder=LabelDecoder(words=words)).fit(table, labels)

    proba = classifier.predict_proba(table)
    assert classifier.classes_.tolist() == sorted(LABELS[case])
    assert classifier.classes_.dtype == labels.dtype
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    assert (proba > 0).all()
    np.testing.assert_array_equal(
        classifier.predict(table), classifier.classes_[proba.argmax(axis=1)]
    )


@pytest.mark.parametrize("dtype", ["category", "string", "object"])
def test_pandas_targets_are_learnt_as_the_array_of_their_labels(dtype):
    table = mixed_table()
    labels = labels_of(table)

    classifier = short_classifier().fit(table, pd.Series(labels, dtype=dtype))

    plain, _, _ = fitted_problem("classes")
    assert classifier.classes_.tolist() == ["low", "mid", "top"]
    np.testing.assert_array_equal(
        classifier.predict_proba(table), plain.predict_proba(table)
    )


def test_a_target_of_one_class_is_certain():
    table = mixed_table()

    classifier = short_classifier().fit(table, ["only"] * len(table))

    np.testing.assert_array_equal(classifier.predict_proba(table), 1.0)
    assert set(classifier.predict(table)) == {"only"}


# Rows, order and random streams


@pytest.mark.parametrize("case", ["classes", "labels", "numbers"])
def test_a_rows_prediction_knows_nothing_of_its_neighbours(case):
    if case == "labels":
        table = mixed_table()
        estimator = short_classifier(decoder=LabelDecoder(words="labels"))
        estimator.fit(table, labels_of(table))
    else:
        estimator, table, _ = fitted_problem(case)
    shuffled = np.random.RandomState(0).permutation(len(table))

    together = outputs(estimator, table)

    alone = [outputs(estimator, table.iloc[[i]])[0] for i in range(len(table))]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-7)
    np.testing.assert_allclose(
        together[shuffled], outputs(estimator, table.iloc[shuffled]), rtol=0, atol=1e-7
    )


@BOTH_TASKS
def test_fits_of_one_random_state_are_the_same_and_of_another_are_not(task):
    estimator, table, target = problem(task)

    again = outputs(estimator.fit(table, target), table)

    first = outputs(fitted_problem(task)[0], table)
    other = clone(estimator).set_params(random_state=1).fit(table, target)
    np.testing.assert_array_equal(again, first)
    assert not np.array_equal(outputs(other, table), first)


def global_streams():
    """Return the states of the random streams that belong to the process."""
    _, keys, place, *rest = GLOBAL.get_state()
    numpy_state = (keys.tolist(), place, *rest)
    return numpy_state, torch.get_rng_state().tolist(), random.getstate()


@BOTH_TASKS
def test_an_int_random_state_leaves_the_global_streams_alone(task):
    estimator, table, target = problem(task)
    before = global_streams()

    outputs(estimator.fit(table, target), table)

    assert global_streams() == before


def test_no_random_state_draws_one_seed_from_numpys_global_stream():
    table, labels = blobs()
    state = GLOBAL.get_state()
    try:
        GLOBAL.seed(7)
        seed = GLOBAL.randint(2**31)
        expected = global_streams()
        GLOBAL.seed(7)

        classifier = short_classifier(random_state=None).fit(table, labels)

        assert global_streams() == expected
    finally:
        GLOBAL.set_state(state)
    seeded = short_classifier(random_state=seed).fit(table, labels)
    np.testing.assert_array_equal(
        classifier.predict_proba(table), seeded.predict_proba(table)
    )


def test_a_random_state_instance_advances():
    table, labels = blobs()
    stream = np.random.RandomState(0)
    classifier = short_classifier(random_state=stream)

    first = classifier.fit(table, labels).predict_proba(table)
    second = classifier.fit(table, labels).predict_proba(table)

    assert not np.array_equal(first, second)
    replay = short_classifier(random_state=np.random.RandomState(0))
    np.testing.assert_array_equal(replay.fit(table, labels).predict_proba(table), first)


@BOTH_TASKS
def test_fit_changes_neither_its_parameters_nor_what_it_is_given(task):
    estimator, table, target = problem(task)
    estimator.set_params(encoder=RowEncoder(descriptions={"size": "acres"}))
    weight = np.arange(len(table), dtype=float)
    before = repr(estimator.get_params(deep=True))
    kept = copy.deepcopy((table, target, weight))

    estimator.fit(table, target, sample_weight=weight)

    assert repr(estimator.get_params(deep=True)) == before
    assert not hasattr(estimator.encoder, "labels_")
    assert not [name for name in vars(estimator.finetuner) if name.endswith("_")]
    pd.testing.assert_frame_equal(table, kept[0])
    np.testing.assert_array_equal(target, kept[1])
    np.testing.assert_array_equal(weight, kept[2])


def test_a_fit_leaves_the_model_it_started_from_as_it_was():
    table, labels = blobs()
    prompts, answers = ["x0 53 y?"], ["y0", "y1"]
    before = LanguageModel.load().score(prompts, answers)

    classifier = short_classifier().fit(table, labels)

    np.testing.assert_array_equal(LanguageModel.load().score(prompts, answers), before)
    tuned = classifier.language_model_.score(prompts, answers)
    assert not np.array_equal(tuned, before)


@pytest.mark.parametrize("estimator_class", [LIFTClassifier, LIFTRegressor])
@pytest.mark.parametrize("model", [None, "no/such/name", Path("/no/such/folder")])
def test_constructing_touches_neither_disk_nor_network(
    estimator_class, model, monkeypatch
):
    def refuse(*args, **options):
        raise AssertionError("Constructing must not open anything.")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("os.stat", refuse)
    monkeypatch.setattr("socket.socket", refuse)

    estimator = estimator_class(model, device="no such device", random_state="odd")

    assert estimator.model is model


# Weights


@BOTH_TASKS
def test_rows_of_weight_zero_are_dropped(task):
    estimator, table, target = problem(task)
    weight = (np.arange(len(table)) % 4 > 0).astype(float)

    estimator.fit(table, target, sample_weight=weight)

    fewer = clone(estimator).fit(table[weight > 0], target[weight > 0])
    np.testing.assert_array_equal(outputs(estimator, table), outputs(fewer, table))


def test_a_row_of_weight_zero_is_not_read():
    table, labels = blobs()
    table = table.astype({"a": object})
    dropped = table.copy()
    dropped.loc[0, "a"] = "not a number"
    weight = np.ones(len(table))
    weight[0] = 0

    classifier = short_classifier().fit(dropped, labels, sample_weight=weight)

    fewer = short_classifier().fit(table[1:], labels[1:])
    np.testing.assert_array_equal(
        classifier.predict_proba(table), fewer.predict_proba(table)
    )


@pytest.mark.parametrize("class_weight", [None, "balanced", {"low": 1, "mid": 2}])
def test_a_class_whose_rows_weigh_nothing_is_no_class(class_weight):
    table = mixed_table()
    labels = labels_of(table)
    weight = (labels != "top").astype(float)

    classifier = short_classifier(class_weight=class_weight)
    classifier.fit(table, labels, sample_weight=weight)

    assert classifier.classes_.tolist() == ["low", "mid"]
    assert classifier.predict_proba(table).shape == (len(table), 2)


@BOTH_TASKS
def test_a_whole_weight_is_so_many_repetitions(task):
    estimator, table, target = problem(task)
    weight = np.random.RandomState(0).randint(0, 4, len(table))

    estimator.fit(table, target, sample_weight=weight)

    repeated = np.repeat(np.arange(len(table)), weight)
    longer = clone(estimator).fit(table.iloc[repeated], target[repeated])
    np.testing.assert_array_equal(outputs(estimator, table), outputs(longer, table))


def test_weights_space_the_grid_of_numbers():
    table, _ = blobs()
    numbers = numbers_of(table)
    weight = np.where(numbers < 3, 9.0, 1.0)
    decoder = NumberDecoder(grid="scaled", spacing="quantile")

    regressor = short_regressor(decoder=decoder).fit(
        table, numbers, sample_weight=weight
    )

    expected = clone(decoder).fit(numbers, weight).answers_.numbers
    np.testing.assert_allclose(
        regressor.decoder_.answers_.numbers, expected, rtol=1e-12
    )


@BOTH_TASKS
def test_the_order_of_training_rows_changes_nothing(task):
    estimator, table, target = problem(task)
    order = np.random.RandomState(0).permutation(len(table))

    estimator.fit(table.iloc[order], target[order])

    plain, _, _ = fitted_problem(task)
    np.testing.assert_array_equal(outputs(estimator, table), outputs(plain, table))


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 5.0}])
def test_a_class_weight_is_the_sample_weight_of_its_rows(class_weight):
    table, labels = blobs()
    labels[:10] = 0

    classifier = short_classifier(class_weight=class_weight).fit(table, labels)

    weighted = short_classifier().fit(
        table, labels, sample_weight=compute_sample_weight(class_weight, labels)
    )
    plain = short_classifier().fit(table, labels)
    proba = classifier.predict_proba(table)
    np.testing.assert_array_equal(proba, weighted.predict_proba(table))
    assert not np.array_equal(proba, plain.predict_proba(table))


def test_a_class_weight_finds_labels_that_read_like_numbers():
    table, labels = blobs()
    names = np.array(["0", "1"])[labels]

    classifier = short_classifier(class_weight={"0": 1.0, "1": 5.0}).fit(table, names)

    weighted = short_classifier().fit(
        table, names, sample_weight=np.array([1.0, 5.0])[labels]
    )
    np.testing.assert_array_equal(
        classifier.predict_proba(table), weighted.predict_proba(table)
    )


def test_balanced_classes_are_balanced_by_their_rows_weights():
    table, labels = blobs()
    weight = np.random.RandomState(0).randint(0, 4, len(table))
    classifier = short_classifier(class_weight="balanced")

    classifier.fit(table, labels, sample_weight=weight)

    repeated = np.repeat(np.arange(len(table)), weight)
    longer = clone(classifier).fit(table.iloc[repeated], labels[repeated])
    np.testing.assert_array_equal(
        classifier.predict_proba(table), longer.predict_proba(table)
    )


def test_a_class_weight_for_no_class_is_refused():
    table = mixed_table()

    classifier = short_classifier(class_weight={"low": 1, "middle": 2})

    with pytest.raises(ValueError, match=r"'middle'.* which is no class"):
        classifier.fit(table, labels_of(table))


# Early stopping


class Watched(FineTuner):
    """Tells how many rows were left out, and the metric of the model on them."""

    def finetune(self, lm, corpus, rng, *, metric, verbose=0):
        members = super().finetune(lm, corpus, rng, metric=metric, verbose=verbose)
        ((tuned, unseen),) = members
        self.n_unseen_ = len(unseen)
        self.metric_ = metric(tuned, unseen)
        return members


@BOTH_TASKS
@pytest.mark.parametrize("early_stopping", [True, np.True_])
def test_early_stopping_sets_rows_aside_and_keeps_the_best_weights(
    task, early_stopping
):
    estimator, table, target = problem(task)
    finetuner = Watched(
        n_epochs=12,
        max_steps=None,
        learning_rate=0.02,
        early_stopping=early_stopping,
        validation_fraction=0.25,
        n_iter_no_change=2,
        n_models=1,
    )

    estimator.set_params(finetuner=finetuner).fit(table, target)

    watched = estimator.finetuner_
    metrics = [epoch["monitored"] for epoch in watched.history_]
    assert watched.n_unseen_ == 6  # of 24
    # Training rounds to float32, use does not.
    np.testing.assert_allclose(watched.metric_, max(metrics), rtol=1e-3)
    assert len(metrics) == min(12, np.argmax(metrics) + 1 + 2)
    assert len(metrics) < 12 or np.argmax(metrics) >= 9


def test_every_class_has_a_probability_though_its_one_row_is_set_aside():
    table = mixed_table()
    labels = np.arange(len(table))  # no two rows of a class
    finetuner = FineTuner(max_steps=2, early_stopping=True)

    classifier = short_classifier(finetuner=finetuner).fit(table, labels)

    assert classifier.predict_proba(table).shape == (24, 24)


# Numbers


@pytest.mark.parametrize("point", ["median", "mean"])
def test_predicted_numbers_stay_on_the_grid_for_extreme_inputs(point):
    table, _ = blobs()
    numbers = numbers_of(table)
    regressor = short_regressor(decoder=NumberDecoder(point=point)).fit(table, numbers)
    ends = [-1e300, -1e9, 0.0, 1e-300, 1e9, 1e300, np.nan]
    extremes = pd.DataFrame({"a": ends, "b": ends[::-1]})

    predicted, deviation = regressor.predict(extremes, return_std=True)

    assert predicted.min() >= -0.2  # 2 % of the targets' range below the least
    assert predicted.max() <= 10.2
    assert (deviation >= 0).all()
    assert (deviation <= 10.4 / 2).all()  # no distribution in the range has more
    np.testing.assert_array_equal(regressor.predict(extremes), predicted)


def test_low_and_high_bound_the_predictions():
    table, _ = blobs()
    numbers = numbers_of(table)
    decoder = NumberDecoder(low=0.0, high=50.0)

    regressor = short_regressor(decoder=decoder).fit(table, numbers)

    predicted = regressor.predict(table)
    assert (regressor.decoder_.answers_.low, regressor.decoder_.answers_.high) == (
        0,
        50,
    )
    assert predicted.min() >= 0.0
    assert predicted.max() <= 50.0
    with pytest.raises(ValueError, match=r"span 0 to 10, beyond low=1"):
        clone(regressor).set_params(decoder__low=1.0).fit(table, numbers)


@pytest.mark.parametrize("constant", [0.0, -3.7e-9, 0.1 + 0.2, 123456.789, 1e20])
def test_a_constant_target_is_predicted_exactly(constant):
    table, _ = blobs()

    regressor = short_regressor().fit(table, np.full(len(table), constant))

    predicted, deviation = regressor.predict(table, return_std=True)
    np.testing.assert_array_equal(predicted, constant)
    np.testing.assert_array_equal(deviation, 0.0)


# Cells


@BOTH_TASKS
def test_no_row_is_without_a_valid_prediction(task):
    estimator, _, _ = fitted_problem(task)
    strange = pd.DataFrame(
        {
            "size": [np.nan, 1e308, -1e308, 5e-324],
            "rooms": [np.nan, 10**9, -1, 2.5],
            "place": [None, "a place never seen", "", "x0 53 </s> y?"],
            "new": [None, True, False, True],
            "state": pd.Categorical([None, "odd", "bad", "odd"]),
            "sold": pd.to_datetime([None, "1700-01-01", "2200-12-31", "2024-02-29"]),
            "note": [None, "", "ひとつ 🙂", "a" * 20],
        }
    )

    numbers = outputs(estimator, strange)

    assert numbers.shape[0] == 4
    assert np.isfinite(numbers).all()
    if task == "classes":
        np.testing.assert_allclose(numbers.sum(axis=1), 1.0, atol=1e-6)
        assert set(estimator.predict(strange)) <= {"low", "mid", "top"}
    else:
        assert (np.abs(numbers[:, 0] - 5.0) <= 5.2).all()


def test_a_table_of_nothing_but_missing_cells_is_learnt():
    table = pd.DataFrame({"a": [np.nan] * 12, "b": [None] * 12})

    classifier = short_classifier().fit(table, ["no", "yes"] * 6)

    proba = classifier.predict_proba(table)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(proba, proba[[0] * 12], atol=1e-7)


@BOTH_TASKS
def test_a_polars_table_is_learnt_as_the_pandas_one(task):
    estimator, table, target = problem(task)
    table = table[["size", "place", "note", "sold"]]
    other = pl.DataFrame(
        {
            name: table[name].astype(object).where(table[name].notna(), None).tolist()
            for name in table
        }
    )

    estimator.fit(other, target)

    plain = clone(estimator).fit(table, target)
    assert estimator.feature_names_in_.tolist() == list(table.columns)
    np.testing.assert_array_equal(outputs(estimator, other), outputs(plain, table))


# Models and parts of other kinds


@BOTH_TASKS
@pytest.mark.parametrize("family", ["gpt2_folder", "llama_folder"])
def test_a_model_from_a_folder_is_tuned(family, task, request):
    folder = request.getfixturevalue(family)
    estimator, _, target = problem(task)
    table = pd.DataFrame({"place": [f"hill {i}" for i in range(24)]})
    untuned = clone(estimator).set_params(model=str(folder), finetuner__n_epochs=0)
    untuned.fit(table, target)
    prompts, answers = untuned.encoder_.transform(table), untuned.decoder_.answers_
    before = untuned.language_model_.score(prompts, answers.texts).mean(axis=0)
    written = answers.write(target)
    rarest = before[written].argmin()

    # Nearly all rows have the target that the model finds least probable.
    target[3:-1] = target[rarest]
    estimator.set_params(
        model=folder, finetuner__max_steps=15, finetuner__learning_rate=0.01
    ).fit(table, target)

    after = estimator.language_model_.score(prompts, answers.texts).mean(axis=0)
    assert after[written[rarest]] > before[written[rarest]] + 1
    assert untuned.finetuner_.n_steps_ == 0
    assert np.isfinite(outputs(estimator, table)).all()
    sentence = estimator.encoder_.transform(table.iloc[[0]])[0]
    assert sentence.startswith("place is hill")  # no preference: the table's names


def test_a_saved_model_is_a_model_to_start_from(tmp_path):
    classifier, table, target = problem("classes")
    classifier.set_params(finetuner__n_models=1).fit(table, target)
    classifier.language_model_.save(tmp_path)

    again = clone(classifier).set_params(model=tmp_path, finetuner__n_epochs=0)

    np.testing.assert_allclose(
        again.fit(table, target).predict_proba(table),
        classifier.predict_proba(table),
        rtol=1e-9,
    )


class Shouting:
    """An encoder of one's own: no parameters, no augmentation, just sentences."""

    def fit(self, X, y=None):
        self.question_ = f"{y.name.upper()}?"
        return self

    def transform(self, X):
        return [f"{' '.join(map(str, row))} {self.question_}" for row in X.to_numpy()]


def test_an_encoder_of_ones_own_needs_fit_and_transform_only(gpt2_folder):
    table = mixed_table()[["place", "rooms"]]
    labels = pd.Series(labels_of(table), name="price")
    encoder = Shouting()

    classifier = short_classifier(model=gpt2_folder, encoder=encoder)
    classifier.fit(table, labels)

    prompts = classifier.encoder_.transform(table)
    scores = classifier.language_model_.score(prompts, ["low", "mid", "top"])
    assert prompts[0].endswith(" PRICE?")
    assert not vars(encoder)
    np.testing.assert_allclose(
        classifier.predict_proba(table), np.exp(scores), rtol=1e-4
    )


class Lazy:
    """A fine-tuner of one's own, which gives back the model it was given."""

    def finetune(self, lm, corpus, rng, *, metric, verbose):
        return lm


class LazyStopper(Lazy):
    """Its attributes are its own, whatever they are called."""

    early_stopping, n_models, count_models, checkpoint_dir = True, 3, 3, "."


class LazyMember(Lazy):
    def finetune(self, lm, corpus, rng, *, metric, verbose):
        return [(lm, None)]


class LazyTwins(Lazy):
    def finetune(self, lm, corpus, rng, *, metric, verbose):
        assert metric(lm, corpus) <= 1
        return ((lm, None), (lm, None))


class LazyEnsemble(Lazy):
    def finetune(self, lm, corpus, rng, *, metric, verbose):
        return Ensemble((lm, lm))


class LazyHalf(Lazy):
    """Leaves rows out, which may tell a temperature."""

    def finetune(self, lm, corpus, rng, *, metric, verbose):
        return [(lm, corpus)]


@BOTH_TASKS
@pytest.mark.parametrize(
    "finetuner", [Lazy, LazyStopper, LazyMember, LazyTwins, LazyEnsemble]
)
def test_a_finetuner_of_ones_own_needs_finetune_only(task, finetuner):
    estimator, table, target = problem(task)

    estimator.set_params(finetuner=finetuner()).fit(table, target)

    untuned = clone(estimator).set_params(finetuner=FineTuner(n_epochs=0))
    np.testing.assert_allclose(
        outputs(estimator, table),
        outputs(untuned.fit(table, target), table),
        rtol=1e-9,
    )


@BOTH_TASKS
def test_rows_that_a_finetuner_of_ones_own_left_out_are_used(task):
    estimator, table, target = problem(task)
    plain = clone(estimator).set_params(finetuner=Lazy()).fit(table, target)

    estimator.set_params(finetuner=LazyHalf()).fit(table, target)

    temperature = vars(estimator.decoder_).get("temperature_")
    is_other = temperature != vars(plain.decoder_).get("temperature_")
    assert is_other == (task == "classes")


def test_one_bar_of_a_whole_fit_is_shown_only_if_asked_for(capsys):
    table, labels = blobs()
    tuner = FineTuner(max_steps=3, n_models=2)

    short_classifier(finetuner=tuner).fit(table, labels)
    quiet = capsys.readouterr()
    short_classifier(finetuner=tuner, verbose=1).fit(table, labels)
    loud = capsys.readouterr()

    assert quiet.out + quiet.err == ""
    assert {whole for _, whole in steps_told(loud.err)} == {6}
    assert max(steps_told(loud.err)) == (6, 6)
    assert "member 2 of 2" in loud.err


def steps_told(shown):
    """Return the steps that a bar has told, each of how many."""
    return [(int(n), int(of)) for n, of in re.findall(r"(\d+)/(\d+) \[", shown)]


def test_a_bar_expects_the_schedule_that_is_tried_and_ends_with_the_steps_taken(capsys):
    table, _ = blobs(24)
    regressor = LIFTRegressor(n_shots=0, random_state=0, verbose=1)
    regressor.set_params(finetuner__n_epochs=2, finetuner__n_models=2)

    regressor.fit(table, table["a"])

    told = steps_told(capsys.readouterr().err)
    tuner = regressor.finetuner_
    full = math.ceil(24 / tuner.batch_size_) * 2
    assert tuner.short_schedule_ in (False, True)
    assert told[0] == (0, math.ceil(full / 4) + 2 * full)
    assert told[-1][0] == told[-1][1] <= told[0][1]


def test_the_wording_of_the_first_row_is_told_once(capsys):
    table, labels = blobs()
    table.loc[0, "a"] = 123.0  # the first row stands not first when they are sorted
    classifier = short_classifier(encoder=RowEncoder(numbers="plain"), verbose=1)

    classifier.fit(table, labels)

    out = capsys.readouterr().out
    sentence = classifier.encoder_.transform(table[:1])[0]
    assert out.count("The first row is written") == 1
    assert f"{sentence!r}, answer" in out
    classifier.estimate_cost(table, labels)
    assert capsys.readouterr() == ("", "")


def test_fits_of_joblibs_workers_show_nothing(capfd):
    table, labels = blobs()

    Parallel(2, backend="threading")(
        delayed(short_classifier(verbose=1).fit)(table, labels) for _ in range(2)
    )

    assert capfd.readouterr() == ("", "")


# Several models


def apart(n_models, **parameters):
    """Return a fine-tuner of copies that do not agree."""
    short = {"max_steps": 4, "learning_rate": 0.02, "n_models": n_models}
    return FineTuner(**{**short, **parameters})


@BOTH_TASKS
def test_several_models_predict_the_mean_of_what_each_does(task):
    estimator, table, target = problem(task)
    estimator.set_params(finetuner=apart(3)).fit(table, target)

    members = estimator.language_model_.members
    assert len(members) == estimator.finetuner_.n_models_ == 3
    prompts = estimator.encoder_.transform(table)
    if task == "classes":
        each = [estimator.decoder_.predict_proba(lm, prompts) for lm in members]
        mean = estimator.predict_proba(table)
    else:
        each = [
            estimator.decoder_.predict_distribution(lm, prompts).cdf(target)
            for lm in members
        ]
        mean = estimator.predict_distribution(table).cdf(target)
    assert np.ptp(each, axis=0).max() > 0.01
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-12)
    answers = estimator.decoder_.answers_.texts
    score = estimator.language_model_.score(prompts, answers)
    scores = [lm.score(prompts, answers) for lm in members]
    np.testing.assert_allclose(np.exp(score), np.mean(np.exp(scores), axis=0))


# What can't be used


@pytest.mark.parametrize("estimator_class", [LIFTClassifier, LIFTRegressor])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (None, "requires y to be passed"),
        ([0, 1, 0], "inconsistent numbers of samples"),
        ([0, 1, np.nan, 0], "y contains NaN"),
        ([0, 1, np.inf, 0], "y contains infinity"),
        ([[0, 1], [1, 0], [0, 1], [1, 1]], "1d array|multilabel|bad input shape"),
    ],
)
def test_a_target_that_cannot_be_used_is_refused(estimator_class, target, message):
    table = mixed_table(4)

    with pytest.raises(ValueError, match=message):
        estimator_class().fit(table, target)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_label_is_refused(missing):
    table = mixed_table(4)
    labels = pd.Series(["a", "b", missing, "a"], dtype=object)

    with pytest.raises(ValueError, match="NaN: the label of row 2"):
        LIFTClassifier().fit(table, labels)


def test_a_continuous_target_is_not_for_the_classifier():
    table = mixed_table(4)

    with pytest.raises(ValueError, match="continuous"):
        LIFTClassifier().fit(table, [0.5, 1.5, 2.25, 0.5])


def test_words_are_no_target_for_the_regressor():
    table = mixed_table(4)

    with pytest.raises(ValueError, match="numbers as y, got 'a' in row 0"):
        LIFTRegressor().fit(table, ["a", "b", "a", "b"])


@BOTH_TASKS
def test_a_table_unlike_that_of_fit_is_refused(task):
    estimator, table, _ = fitted_problem(task)
    with pytest.raises(NotFittedError):
        clone(estimator).predict(table)

    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(table.rename(columns={"size": "width"}))
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(table[table.columns[::-1]])
    with pytest.raises(ValueError, match="held numbers"):
        estimator.predict(table.assign(size="large"))
    with pytest.raises(ValueError, match="0 sample"):
        estimator.predict(table[:0])
    with pytest.raises(ValueError, match=r"infinity.*'size', row 1"):
        estimator.predict(pd.concat([table[:1], table[:1].assign(size=np.inf)]))


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"model": 3}, "model"),
        ({"encoder": "names"}, "encoder"),
        ({"finetuner": RowEncoder()}, "finetuner"),
        ({"decoder": NumberDecoder()}, "decoder"),
        ({"class_weight": "even"}, "class_weight"),
        ({"random_state": "odd"}, "random_state"),
        ({"encoder": RowEncoder(digits=0)}, "digits"),
        ({"finetuner": FineTuner(learning_rate=-1.0)}, "learning_rate"),
        ({"decoder": LabelDecoder(words="letters")}, "words"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(parameters, name):
    table, labels = blobs()

    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        LIFTClassifier(**parameters).fit(table, labels)


def test_weights_that_cannot_be_used_are_refused():
    table, labels = blobs()

    with pytest.raises(ValueError, match="at least one non-zero"):
        short_classifier().fit(table, labels, sample_weight=np.zeros(len(table)))
    with pytest.raises(ValueError, match="Negative values"):
        short_classifier().fit(table, labels, sample_weight=-np.ones(len(table)))
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        short_classifier().fit(table, labels, sample_weight=[1.0, 2.0])


def test_too_long_a_row_is_named_with_its_tokens():
    table = pd.DataFrame({"text": [f"text number {i}" for i in range(14)]})
    longer = table.copy()
    longer.loc[7, "text"] = "many words " * 600
    encoder = RowEncoder(text_length=None)
    labels = ["no", "yes"] * 7

    with pytest.raises(ValueError, match=r"Row 7 is \d{4} tokens .* at most 4096"):
        short_classifier(encoder=encoder).fit(longer, labels)
    weight = np.ones(14)
    weight[:2] = 0
    with pytest.raises(ValueError, match=r"Row 7 is \d{4} tokens .* at most 4096"):
        short_classifier(encoder=encoder).fit(longer, labels, sample_weight=weight)
    weight[7] = 0
    short_classifier(encoder=encoder).fit(longer, labels, sample_weight=weight)
    fitted = short_classifier(encoder=encoder).fit(table, labels)
    with pytest.raises(ValueError, match=r"Row 7 is \d{4} tokens .* at most 4096"):
        fitted.predict(longer)
    with warnings.catch_warnings(), pytest.warns(UserWarning, match="which are cut"):
        short_classifier().fit(longer, labels)
