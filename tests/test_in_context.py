"""Small tables are read: a model sees the labelled rows through its attention."""

import json
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from tiny import blobs, labels_of, mixed_table, numbers_of

import liftlearn
from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    RowEncoder,
)
from liftlearn._language_model import READER, _in_context
from liftlearn._language_model._in_context import InContext, Rows, _attentive, sharpness
from liftlearn._rules import is_read_in_context


def table_for(task, n_rows=24):
    table = mixed_table(n_rows)[["size", "place", "state"]]
    return table, labels_of(table) if task == "classes" else numbers_of(table)


@pytest.fixture(scope="module")
def fitted():
    """Return an estimator of each task that has read a table, and new rows."""
    new = mixed_table(40)[["size", "place", "state"]][24:]
    estimators = {
        "classes": LIFTClassifier(random_state=0),
        "numbers": LIFTRegressor(n_shots="all", random_state=0),
    }
    return {
        task: (estimator.fit(*table_for(task)), new)
        for task, estimator in estimators.items()
    }


def said(estimator, rows):
    """Return what an estimator says of rows, as one array."""
    if isinstance(estimator, LIFTClassifier):
        return estimator.predict_proba(rows)
    return estimator.predict(rows, quantiles=[0.1, 0.5, 0.9])


BOTH = pytest.mark.parametrize("task", ["classes", "numbers"])


# --- which tables are read ------------------------------------------------------------


def reads(estimator):
    return estimator.language_model_.reads_in_context


def test_small_tables_for_classes_are_read_and_nothing_is_trained(fitted):
    classifier, _ = fitted["classes"]
    assert reads(classifier)
    assert classifier.n_shots_ == 24
    assert classifier.finetuner_.n_steps_ == 0
    assert classifier.finetuner_.history_ == []


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "n_classes", "is_read"),
    [
        (400, 64, 10, True),
        (401, 64, 10, False),
        (400, 65, 10, False),
        (400, 64, 11, False),
    ],
)
def test_the_rule_of_what_is_read(n_rows, n_columns, n_classes, is_read):
    assert is_read_in_context(n_rows, n_columns, n_classes) == is_read


@pytest.mark.parametrize(
    ("parameters", "is_read"),
    [
        ({}, True),
        ({"encoder": RowEncoder(), "finetuner": FineTuner()}, True),
        ({"decoder": LabelDecoder(temperature=2.0)}, True),
        ({"finetuner": FineTuner(n_epochs=0)}, True),
        ({"n_shots": 0}, False),
        ({"finetuner": FineTuner(max_steps=1)}, False),
        ({"encoder": RowEncoder(columns="names")}, False),
        ({"decoder": LabelDecoder(words="labels")}, False),
        ({"decoder": LabelDecoder(words=np.array(["a", "b", "c"]))}, False),
        ({"encoder": RowEncoder(columns="names"), "n_shots": "all"}, True),
    ],
)
def test_what_the_user_chooses_for_training_is_learnt(parameters, is_read):
    classifier = LIFTClassifier(**parameters)
    assert (classifier._chosen_model(*table_for("classes")) == READER) == is_read


def test_tables_with_texts_and_numbers_are_learnt():
    texts = pd.DataFrame({"note": [f"note number {i}" for i in range(24)]})
    assert LIFTClassifier()._chosen_model(texts, np.arange(24) % 2) is None
    assert LIFTRegressor()._chosen_model(*table_for("numbers")) is None
    assert LIFTClassifier("some/model")._chosen_model(texts, None) == "some/model"


def test_numbers_are_read_where_the_user_asks_for_it(fitted):
    assert reads(fitted["numbers"][0])
    without = LIFTRegressor(n_shots="all", finetuner=FineTuner(n_epochs=0))
    assert reads(without.fit(*table_for("numbers")))


def test_so_many_rows_are_read_as_asked_for():
    table, target = table_for("classes")
    classifier = LIFTClassifier(n_shots=7, shots="balanced", random_state=0)
    classifier.fit(table, target, sample_weight=np.arange(1, 25))
    assert classifier.n_shots_ == 7
    assert len(classifier.context_.answers) == 7
    # The weights have drawn them, and count no more.
    assert (classifier.context_.weight == 1).all()


# --- what a prediction depends on -----------------------------------------------------


@BOTH
def test_the_order_of_the_context_changes_nothing(fitted, task):
    estimator, new = fitted[task]
    table, target = table_for(task)
    order = np.random.default_rng(0).permutation(len(table))
    again = clone(estimator).fit(table.iloc[order], np.asarray(target)[order])
    np.testing.assert_allclose(said(again, new), said(estimator, new), rtol=1e-9)


@BOTH
def test_a_row_says_the_same_alone_and_among_others(fitted, task):
    estimator, new = fitted[task]
    together = said(estimator, new)
    alone = np.concatenate([said(estimator, new[i : i + 1]) for i in range(len(new))])
    np.testing.assert_allclose(alone, together, rtol=1e-9)


def test_the_answers_of_the_context_matter():
    table, target = table_for("classes")
    new = table[:5]
    target = np.asarray(target)
    plain = LIFTClassifier(random_state=0).fit(table, target).predict_proba(new)
    moved = LIFTClassifier(random_state=0).fit(table, np.roll(target, 5))
    assert not np.allclose(moved.predict_proba(new), plain, atol=1e-3)


@BOTH
def test_a_weight_is_a_repetition(task):
    table, target = table_for(task, 12)
    target = np.asarray(target)
    times = np.array([1, 2, 3] * 4)
    rows = np.repeat(np.arange(12), times)
    estimator = LIFTClassifier if task == "classes" else LIFTRegressor
    settings = {"n_shots": "all", "random_state": 0}
    weighted = estimator(**settings).fit(table, target, sample_weight=times)
    repeated = estimator(**settings).fit(table.iloc[rows], target[rows])
    np.testing.assert_allclose(said(weighted, table), said(repeated, table), rtol=1e-9)


def test_a_weighted_row_is_read_as_that_row_repeated():
    lm = LanguageModel.load(READER)
    sentences, answers = ["10 y?", "50 y?", "90 y?"], ["y0", "y1", "y1"]
    once = InContext(lm, sentences, answers, np.array([2.0, 1.0, 1.0]), 0)
    twice = InContext(lm, ["10 y?", *sentences], ["y0", *answers], np.ones(4), 0)
    asked = ["30 y?", "70 y?"]
    np.testing.assert_allclose(
        once.score(asked, ["y0", "y1"]), twice.score(asked, ["y0", "y1"]), atol=1e-5
    )


def test_names_of_classes_and_levels_and_the_order_of_columns_hardly_matter():
    X, y = load_iris(return_X_y=True, as_frame=True)
    plain = LIFTClassifier(random_state=0).fit(X[::3], y[::3]).predict_proba(X[1::3])
    named = LIFTClassifier(random_state=0).fit(X.iloc[::3, ::-1], 2 - y[::3])
    other = named.predict_proba(X.iloc[1::3, ::-1])[:, ::-1]
    assert np.abs(other - plain).sum(axis=1).mean() / 2 < 0.05


# --- what stays true ------------------------------------------------------------------


@BOTH
def test_predictions_are_valid(fitted, task):
    estimator, new = fitted[task]
    if task == "classes":
        np.testing.assert_allclose(estimator.predict_proba(new).sum(axis=1), 1)
        return
    _, target = table_for(task)
    distribution = estimator.predict_distribution(new)
    reach = 0.03 * np.ptp(target)
    assert (distribution.ppf(0.01) >= np.min(target) - reach).all()
    assert (distribution.ppf(0.99) <= np.max(target) + reach).all()


@BOTH
def test_a_saved_estimator_and_a_pickle_say_the_same(fitted, task, tmp_path):
    estimator, new = fitted[task]
    expected = said(estimator, new)
    estimator.save(tmp_path / "saved")
    for again in (
        liftlearn.load(tmp_path / "saved"),
        pickle.loads(pickle.dumps(estimator)),
    ):
        np.testing.assert_array_equal(said(again, new), expected)


def test_a_saved_reader_reads_another_table(fitted, tmp_path):
    fitted["classes"][0].save(tmp_path / "saved")
    X, y = blobs()
    classifier = LIFTClassifier(tmp_path / "saved", random_state=0).fit(X, y)
    plain = LIFTClassifier(random_state=0).fit(X, y)
    np.testing.assert_array_equal(classifier.predict_proba(X), plain.predict_proba(X))


def test_intervals_keep_their_coverage_without_being_conformal():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    regressor = LIFTRegressor(n_shots="all", random_state=0).fit(X[:100], y[:100])
    low, high = regressor.predict_interval(X[100:200], coverage=0.9).T
    # Three standard deviations of a share of a hundred rows are .09.
    assert 0.78 < ((low <= y[100:200]) & (y[100:200] <= high)).mean() <= 1


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": [1.0, 2.0, np.nan, 4.0], "b": [None, "p", "q", "p"]}),
        pd.DataFrame({"a": pd.to_datetime(["2024-01-01", "2024-05-02"] * 2)}),
        pd.DataFrame({"a": [np.nan] * 4}),
        pd.DataFrame({"a": [True, False, True, False]}),
    ],
    ids=["missing", "dates", "empty", "booleans"],
)
def test_cells_of_all_kinds_are_read(table):
    classifier = LIFTClassifier(random_state=0).fit(table, ["u", "v", "u", "v"])
    assert reads(classifier)
    np.testing.assert_allclose(classifier.predict_proba(table).sum(axis=1), 1)


def test_a_single_class_is_certain():
    X, _ = blobs()
    classifier = LIFTClassifier(n_shots="all", random_state=0).fit(X, ["a"] * len(X))
    assert (classifier.predict_proba(X) == 1).all()


# --- errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"shots": "nearest", "n_shots": 3}, "shots='nearest'"),
        ({"n_shots": 0}, "n_shots=0 shows no labelled rows"),
        ({"decoder": LabelDecoder(words="labels"), "n_shots": "all"}, "n_shots=0"),
        ({"finetuner": FineTuner(n_epochs=2)}, "n_epochs=2"),
    ],
    ids=["nearest", "nothing", "words", "training"],
)
def test_what_cannot_be_read_is_refused(parameters, message):
    classifier = LIFTClassifier(READER, random_state=0).set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        classifier.fit(*table_for("classes"))


@pytest.mark.parametrize("layers", ["2", [], [0, 10], [True], {}])
def test_wrong_layers_are_named(layers, tmp_path):
    lm = LanguageModel.load(READER)
    lm.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"across_layers": layers})
    )
    with pytest.raises(ValueError, match="across_layers"):
        LIFTClassifier(tmp_path).fit(*table_for("classes"))


def test_another_family_cannot_read_in_context(llama_folder, tmp_path):
    shutil.copytree(llama_folder, tmp_path / "llama")
    file = tmp_path / "llama" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"across_layers": [0]}))
    with pytest.raises(ValueError, match="GPT-2"):
        LIFTClassifier(tmp_path / "llama").fit(*table_for("classes"))


# --- attention ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def read():
    """Return a function from tokens of two tables of five rows to hidden states."""
    model = _attentive(LanguageModel.load(READER).model, torch.float64)
    positions = torch.tensor([2, 3, 0, 1]).expand(10, -1)

    def hidden(ids):
        rows = Rows(2, 3, sharpness(3))
        with torch.inference_mode():
            states = model.base_model(
                input_ids=ids.flatten(0, 1), position_ids=positions, rows=rows
            )[0]
        return states.unflatten(0, (2, 5))

    return hidden


def tokens():
    return torch.randint(200, 600, (2, 5, 4), generator=torch.manual_seed(0))


def test_nobody_sees_a_row_that_is_asked(read):
    ids = tokens()
    other = ids.clone()
    other[0, 3] = tokens().flip(0)[0, 3]
    changed = (read(ids) - read(other)).abs().amax((2, 3)) > 0
    assert changed.tolist() == [[False] * 3 + [True, False], [False] * 5]


def test_nobody_sees_the_answer_of_a_row_that_is_asked(read):
    ids = tokens()
    other = ids.clone()
    other[:, 3:, -1] = 5
    assert torch.equal(read(ids)[:, :, :-1], read(other)[:, :, :-1])


def test_the_context_is_a_set(read):
    ids = tokens()
    other = ids[:, [2, 0, 1, 3, 4]]
    torch.testing.assert_close(read(ids)[:, 3:], read(other)[:, 3:], rtol=0, atol=1e-9)


def test_tables_do_not_see_each_other(read):
    ids = tokens()
    other = ids.clone()
    other[1] = ids[0]
    assert torch.equal(read(ids)[0], read(other)[0])


def test_a_reader_whose_scores_are_no_numbers_is_refused(monkeypatch):
    X, y = blobs()
    classifier = LIFTClassifier(n_shots="all", random_state=0).fit(X, y)
    hidden = _in_context._hidden
    monkeypatch.setattr(
        _in_context, "_hidden", lambda *read: hidden(*read) * float("inf")
    )

    with pytest.raises(ValueError, match=r"are not numbers \(NaN\)"):
        classifier.predict_proba(X + 1)
