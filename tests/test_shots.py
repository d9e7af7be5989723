"""Labelled rows are shown before each question: which, how, and what they change."""

import json
import pickle
import shutil
from dataclasses import replace
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from numpy.random import RandomState
from sklearn.base import clone
from tiny import blobs, labels_of, mixed_table, numbers_of, outputs

import liftlearn
from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    NumberDecoder,
    RowEncoder,
)
from liftlearn._answers import LabelAnswers
from liftlearn._corpus import Corpus
from liftlearn._finetuner._members import split
from liftlearn._shots import Neighbours, Pool, Shots

WAYS = pytest.mark.parametrize("way", ["random", "balanced", "nearest"])
TASKS = pytest.mark.parametrize("task", ["classes", "numbers"])
SHOWN = {"finetuner": FineTuner(n_epochs=0), "n_shots": 3, "random_state": 0}
LABELS = np.array(["low", "mid", "top"])


def fits_all(prompts):
    return []


def plan(way="random", n_shots=3, *, of_numbers=False, too_long=fits_all):
    return Shots(n_shots, way, of_numbers, "\n", 0, too_long)


def pool_of(target, weight=None, **settings):
    """Return a pool of as many distinct rows as targets."""
    n_rows = len(target)
    table = pd.DataFrame({"x": np.arange(float(n_rows))})
    weight = np.ones(n_rows) if weight is None else np.asarray(weight, float)
    sentences = [str(row) for row in range(n_rows)]
    return Pool(plan(**settings), table, sentences, np.asarray(target), weight)


def corpus_of(target, encoder=None, table=None, **settings):
    """Return a corpus of labelled rows with shots."""
    if table is None:
        table = pd.DataFrame({"x": np.arange(float(len(target)))})
    encoder = (encoder or RowEncoder(question="?")).fit(table)
    target, weight = np.asarray(target), np.ones(len(target))
    answers = LabelAnswers(np.unique(target), "labels")
    return Corpus(encoder, answers, table, target, weight, plan(**settings))


def estimator_of(task, model, **parameters):
    estimator = LIFTClassifier if task == "classes" else LIFTRegressor
    return estimator(model, **{**SHOWN, **parameters})


def problem(task):
    table = mixed_table(12)[["size", "place", "state"]]
    return table, labels_of(table) if task == "classes" else numbers_of(table)


@pytest.fixture(scope="module")
def fitted(llama_folder):
    """Return what fits an estimator of a task and a way, once for all tests."""
    made = {}

    def of(task, way):
        if (task, way) not in made:
            estimator = estimator_of(task, llama_folder, shots=way)
            made[task, way] = estimator.fit(*problem(task))
        return made[task, way]

    return of


# Which rows are shown


def test_rows_are_drawn_once_each_and_in_another_order_each_time():
    pool, rng = pool_of(np.zeros(9)), RandomState(0)

    drawn = [pool.drawn(5, rng).tolist() for _ in range(20)]

    assert all(len(set(rows)) == 5 for rows in drawn)
    assert len(set(map(tuple, drawn))) > 15


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_rows_are_drawn_in_proportion_to_their_weights(unit):
    weight = np.array([1.0, 2.0, 5.0])
    pool, rng = pool_of(np.zeros(3), weight * unit), RandomState(0)

    firsts = [pool.drawn(1, rng)[0] for _ in range(4000)]

    share = np.bincount(firsts, minlength=3) / 4000
    np.testing.assert_allclose(share, weight / 8, atol=5 * 0.5 / np.sqrt(4000))


@pytest.mark.parametrize(
    ("sizes", "n_shots", "expected"),
    [
        ([9, 9, 9], 6, {2}),
        ([9, 9, 9], 7, {2, 3}),
        ([30, 1, 9], 9, {4, 1}),  # what one class lacks, the others have
        ([3, 9], 12, {3, 9}),
        ([5] * 10, 4, {0, 1}),
    ],
)
def test_balanced_shots_are_equally_many_of_each_class_as_far_as_there_are(
    sizes, n_shots, expected
):
    target = np.repeat(np.arange(len(sizes)), sizes)
    pool = pool_of(target, way="balanced")

    rows = pool.drawn(n_shots, RandomState(1))

    counts = np.bincount(target[rows], minlength=len(sizes))
    assert counts.sum() == len(set(rows.tolist())) == n_shots
    assert set(counts.tolist()) == expected


def test_balanced_shots_of_numbers_are_one_of_each_quantile():
    target = RandomState(0).lognormal(size=40)
    pool = pool_of(target, way="balanced", of_numbers=True)

    rows = pool.drawn(8, RandomState(1))

    rank = np.argsort(np.argsort(target))[rows]
    assert sorted(rank // 5) == [*range(8)]


def test_quantiles_are_those_of_the_weighted_rows():
    weight = np.array([1.0] * 30 + [29.0, 1.0])  # half of the weight is one row's
    pool = pool_of(np.arange(32.0), weight, way="balanced", of_numbers=True)

    drawn = [pool.drawn(2, RandomState(seed)).tolist() for seed in range(20)]

    assert all(rows.count(30) + rows.count(31) == 1 for rows in drawn)


def cells_of_all_kinds():
    return pd.DataFrame(
        {
            "size": [0.0, 1.0, 2.0, 3.0, 4.0],
            "town": pd.Categorical(["Ulm", "Bonn", "Ulm", None, "Bonn"]),
            "grade": pd.Categorical(
                ["bad", "fair", "good", "fair", "bad"],
                ["bad", "fair", "good"],
                ordered=True,
            ),
            "since": pd.date_range("2024-01-01", periods=5, freq="D"),
        }
    )


def test_the_distance_is_gowers():
    table = cells_of_all_kinds()

    distance = Neighbours.fit(table, np.ones(5)).distances(table)

    # By hand, of numbers and dates by their even spacing.
    gap = np.abs(np.subtract.outer(*[np.array([0, 0.25, 0.5, 0.75, 1])] * 2))
    rank = np.array([0, 0.5, 1, 0.5, 0])
    grade = np.abs(np.subtract.outer(rank, rank))
    other = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
    known = [0, 1, 2, 4]
    expected = (2 * gap + grade) / 3  # where no town is known
    town = np.full((5, 5), np.nan)
    town[np.ix_(known, known)] = other
    expected = np.where(np.isnan(town), expected, (2 * gap + grade + town) / 4)
    np.testing.assert_allclose(distance, expected, atol=0.06)  # the scale is mixed
    np.testing.assert_allclose(distance, distance.T)
    assert (np.diag(distance) == 0).all()


def test_texts_are_near_if_they_share_words():
    table = pd.DataFrame({"note": [f"the {word} ran {i}" for i, word in enumerate(
        ["dog", "cat", "cow", "hen", "pig", "fox", "bee", "ant", "elk", "owl", "rat",
         "bat"])]})  # fmt: skip
    near = Neighbours.fit(table, np.ones(12))

    distance = near.distances(pd.DataFrame({"note": ["A DOG ran", None]}))

    assert distance[0].argmin() == 0
    assert distance[0, 0] == pytest.approx(1 - 2 / 5)
    assert (distance[1] == 1).all()  # nothing is known of it


def test_levels_and_cells_that_fit_has_not_met_are_as_far_as_others():
    table = cells_of_all_kinds()
    near = Neighbours.fit(table[["town", "grade"]], np.ones(5))

    new = pd.DataFrame({"town": ["Rome", "Ulm"], "grade": ["awful", None]})

    expected = [[1, 1, 1, 1, 1], [0, 1, 0, 1, 1]]
    np.testing.assert_array_equal(near.distances(new), expected)


def test_the_nearest_row_is_last_and_of_equal_ones_the_weightier():
    table = pd.DataFrame({"x": [0.0, 10.0, 20.0, 20.0, 30.0], "y": [1.0] * 5})
    near = Neighbours.fit(table, np.array([1.0, 1.0, 1.0, 3.0, 1.0]))

    [rows] = near.nearest(
        pd.DataFrame({"x": [21.0], "y": [1.0]}), 3, np.array([-1]), np.arange(5)
    )

    assert rows.tolist()[1:] == [2, 3]


# How they stand before a question


def test_shots_are_the_sentences_and_answers_of_rows_a_line_each(llama_folder):
    table, labels = blobs(6)
    estimator = estimator_of("classes", llama_folder, n_shots=2).fit(table, labels)
    context = estimator.context_

    [prompt] = estimator._prompts(table[:1])

    questions = estimator.encoder_.transform(table)
    *shots, question = prompt.split("\n")
    assert question == questions[0]
    assert len(shots) == estimator.n_shots_ == 2
    own = {f"{q} {label}" for q, label in zip(questions, labels, strict=True)}
    assert set(shots) <= own
    assert {*context.answers} <= {"0", "1"}
    assert (context.weight == 1).all()


@pytest.mark.parametrize(
    "answers", [["no", "yes"], ["1", "12"], ["a!", "b."], ["", "x"]]
)
@pytest.mark.parametrize("name", ["llama", "gpt2", "embedded"])
def test_answers_have_the_tokens_in_shots_that_they_have_when_asked(
    name, answers, request
):
    answers = ["y0", "y1"] if name == "embedded" else answers
    lm = LanguageModel.load() if name == "embedded" else request.getfixturevalue(name)
    separator = lm.separator(answers)

    text = f"x0 53 y? {answers[1]}{separator}x0 47 y?"

    alone, whole = lm._tokens(["x0 53 y?", text])
    own = lm._answer_tokens(answers)[1]
    assert whole[len(alone) : len(alone) + len(own)] == own
    ended = lm._answer_tokens([answers[1] + separator.rstrip(" ")])[0]
    assert whole[len(alone) : len(alone) + len(ended)] == ended
    # The codes of the embedded model stay codes behind the line's end.
    assert whole[-len(lm._tokens(["x0 47 y?"])[0]) :] == lm._tokens(["x0 47 y?"])[0]


def test_an_answer_ends_as_in_the_shots(llama_folder):
    table, _ = blobs(8)
    target = np.array([1, 12] * 4)
    estimator = estimator_of("classes", llama_folder).fit(table, target)

    proba = estimator.predict_proba(table)

    prompts = estimator._prompts(table)
    score = LanguageModel.load(llama_folder).score(prompts, ["1\n", "12\n"])
    np.testing.assert_allclose(proba, np.exp(score), rtol=1e-5)


@pytest.mark.parametrize("n_wordings", [1, 3])
def test_what_all_questions_share_is_read_once(llama_folder, n_wordings):
    table, target = problem("classes")
    decoder = LabelDecoder(n_wordings=n_wordings)
    estimator = estimator_of("classes", llama_folder, decoder=decoder)
    lm = estimator.fit(table, target).language_model_
    read = []
    hook = lm.model.model.register_forward_pre_hook(
        lambda module, args, options: read.append(options["input_ids"].numel()),
        with_kwargs=True,
    )

    estimator.predict_proba(table)
    hook.remove()

    some = estimator._prompts(table)
    prompts = lm.prompt_tokens(some if n_wordings == 1 else some[0])
    questions = lm.prompt_tokens(estimator.encoder_.transform(table))
    shots = len(prompts[0]) - len(questions[0])
    longest = max(map(len, questions))
    n_answer_tokens = 40
    assert shots > 2 * longest
    of_questions = len(table) * (longest + n_answer_tokens)
    # Draws differ in length.
    assert sum(read) < n_wordings * (1.2 * shots + of_questions)


# In training


@WAYS
def test_no_row_is_shown_before_itself_or_one_that_is_written_alike(way):
    # Each sentence is that of three rows.
    table = pd.DataFrame({"x": np.repeat(np.arange(4.0), 3)})
    corpus = corpus_of(["a", "b", "c"] * 4, table=table, way=way, n_shots=5)
    plain = corpus.encoder.transform(table)

    written = [corpus.write(np.arange(12), RandomState(i))[0] for i in range(5)]
    written.append(corpus.prompts())

    for prompts in written:
        for prompt, own in zip(prompts, plain, strict=True):
            *shots, question = prompt.split("\n")
            assert question == own
            assert shots
            assert not any(shot.startswith(own) for shot in shots)


@WAYS
def test_the_answers_of_the_rows_asked_do_not_change_their_prompts(way):
    target = np.array(["a", "b", "c"] * 6)
    other = target.copy()
    other[4] = "c"
    texts = [
        corpus_of(t, way=way, n_shots=6).write(np.arange(18), RandomState(0))[0]
        for t in (target, other)
    ]

    assert texts[0][4] == texts[1][4]
    assert texts[0] != texts[1]  # it is shown before others


@WAYS
def test_held_out_rows_see_none_of_each_other(way):
    corpus = corpus_of(np.array(["a", "b"] * 10), way=way, n_shots=4)
    seen, held_out = split(corpus, 0.3, RandomState(0))
    shuffled = replace(held_out, target=held_out.target[::-1].copy())

    prompts = held_out.prompts()

    assert prompts == shuffled.prompts()
    of_seen = {f"{p} {t}" for p, t in zip(
        seen.encoder.transform(seen.table), seen.target, strict=True)}  # fmt: skip
    shown = {shot for prompt in prompts for shot in prompt.split("\n")[:-1]}
    assert shown <= of_seen


@pytest.mark.parametrize("way", ["random", "balanced"])
def test_shots_are_drawn_afresh_and_written_as_fresh_as_the_question(way):
    encoder = RowEncoder(question="?", jitter=0.3, digits=6)
    table = pd.DataFrame({"x": np.arange(12) / 7})
    corpus = corpus_of(["a", "b"] * 6, encoder, table, way=way)
    rng = RandomState(0)
    plain = " ".join(corpus.encoder.transform(corpus.table))

    first, second = (corpus.write(np.arange(12), rng)[0] for _ in range(2))

    assert all(a.split("\n")[:-1] != b.split("\n")[:-1] for a, b in zip(
        first, second, strict=True))  # fmt: skip
    shots = [shot[:-4] for prompt in first for shot in prompt.split("\n")[:-1]]
    assert all(len(prompt.split("\n")) == 4 for prompt in first)
    assert not any(shot in plain for shot in shots)


def test_one_row_alone_is_asked_without_shots():
    corpus = corpus_of(["a"])

    [prompt], _ = corpus.write(np.array([0]), RandomState(0))

    assert prompt == corpus.encoder.transform(corpus.table)[0] == corpus.prompts()[0]


def test_shots_are_left_out_until_a_prompt_fits():
    def long(prompts):
        return [i for i, prompt in enumerate(prompts) if len(prompt) > 30]

    corpus = corpus_of(["a", "b"] * 6, n_shots=8, too_long=long)

    prompts, _ = corpus.write(np.arange(12), RandomState(0))

    assert all(len(prompt) <= 30 for prompt in prompts)
    assert all(prompt.count("\n") >= 1 for prompt in prompts)


def test_the_first_loss_is_the_score_behind_the_shots(llama_folder):
    table, labels = blobs(12)
    tuner = FineTuner(max_steps=1, batch_size=12, learning_rate=1e-9)
    estimator = estimator_of("classes", llama_folder, shots="nearest", finetuner=tuner)
    corpora = []

    class Spy(FineTuner):
        def finetune(self, lm, corpus, rng, *, metric=None, verbose=0):
            corpora.append(corpus)
            return super().finetune(lm, corpus, rng, metric=metric, verbose=verbose)

    spy = Spy(**tuner.get_params())
    estimator.set_params(finetuner=spy).fit(table, labels)

    [corpus] = corpora
    lm = LanguageModel.load(llama_folder)
    score = lm.score(corpus.prompts(), corpus.answer_texts)
    own = corpus.answers.write(corpus.target)
    expected = -score[np.arange(12), own].mean()
    assert corpus.answer_texts == ["0\n", "1\n"]
    assert estimator.finetuner_.history_[0]["loss"] == pytest.approx(expected, 1e-5)


# Estimators with shots


@TASKS
def test_auto_shows_none_where_the_model_prefers_nothing(task):
    table, target = problem(task)
    tuner = FineTuner(max_steps=2, n_models=1)

    auto, none = (
        estimator_of(task, None, finetuner=tuner, n_shots=n_shots).fit(table, target)
        for n_shots in ("auto", 0)
    )

    assert auto.n_shots_ == none.n_shots_ == 0
    assert auto.context_ is None
    np.testing.assert_array_equal(outputs(auto, table), outputs(none, table))


def with_preference(llama_folder, folder, value):
    shutil.copytree(llama_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["liftlearn"] = {"classification": {"n_shots": value}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(("value", "n_shots"), [(2, 2), ("all", 12), (99, 12)])
def test_a_model_may_prefer_a_count_of_shots(llama_folder, tmp_path, value, n_shots):
    folder = with_preference(llama_folder, tmp_path / "model", value)
    auto = estimator_of("classes", folder, n_shots="auto")

    assert auto.fit(*problem("classes")).n_shots_ == n_shots
    assert clone(auto).set_params(n_shots=1).fit(*problem("classes")).n_shots_ == 1


@pytest.mark.parametrize("value", [-1, 2.5, True, None, [3], "some", "auto", {"n": 1}])
def test_a_wrong_preference_for_shots_is_named(llama_folder, tmp_path, value):
    folder = with_preference(llama_folder, tmp_path / "model", value)

    with pytest.raises(ValueError, match=r"liftlearn\.classification\.n_shots in"):
        LIFTClassifier(folder).fit(*problem("classes"))


@pytest.mark.parametrize(
    "wrong",
    [{"n_shots": n} for n in (-1, 2.5, "some", None)]
    + [{"shots": s} for s in ("best", None, 3)],
    ids=str,
)
def test_a_wrong_value_is_named(wrong):
    [name] = wrong

    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        estimator_of("classes", None, **wrong).fit(*problem("classes"))


@TASKS
@WAYS
def test_a_rows_prediction_depends_on_it_and_the_training_rows_alone(fitted, task, way):
    estimator, table = fitted(task, way), problem(task)[0]

    whole = outputs(estimator, table)

    np.testing.assert_allclose(whole[::-1], outputs(estimator, table[::-1]), 1e-4)
    alone = np.concatenate([outputs(estimator, table[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(whole[:3], alone, 1e-4)


@TASKS
@WAYS
def test_the_order_of_training_rows_changes_nothing(fitted, task, way):
    estimator, (table, target) = fitted(task, way), problem(task)

    again = clone(estimator).fit(table[::-1], target[::-1])

    np.testing.assert_array_equal(outputs(estimator, table), outputs(again, table))


@TASKS
@WAYS
def test_a_weight_is_a_repetition(llama_folder, task, way):
    table, target = problem(task)
    twice = np.r_[np.arange(12), 4, 4, 7]
    weight = np.bincount(twice).astype(float)
    estimator = estimator_of(task, llama_folder, shots=way)

    repeated = clone(estimator).fit(table.iloc[twice], target[twice])
    weighted = clone(estimator).fit(table, target, 10 * weight)

    np.testing.assert_array_equal(outputs(repeated, table), outputs(weighted, table))


def test_rows_of_no_weight_are_not_shown(llama_folder):
    table, target = problem("classes")
    weight = np.array([1.0, 0.0] * 6)

    some = estimator_of("classes", llama_folder, n_shots="all")
    some.fit(table, target, weight)

    assert some.n_shots_ == 6
    shown = {*some.context_.sentences[0]}
    assert shown == {*some.encoder_.transform(table[::2])}


@pytest.mark.parametrize("way", ["random", "nearest"])
def test_rows_that_are_not_shown_do_not_matter_to_a_model_that_is_not_trained(
    llama_folder, way
):
    table, labels = blobs(12)
    estimator = estimator_of("classes", llama_folder, shots=way)
    first = clone(estimator).fit(table, labels)
    [prompt] = first._prompts(table[:1])
    sentences = first.encoder_.transform(table)
    unseen = [i for i, text in enumerate(sentences) if text not in prompt]
    other = labels.copy()
    other[unseen[0]] = 1 - other[unseen[0]]

    second = clone(estimator).fit(table, other)

    one, same = (each.predict_proba(table[:1]) for each in (first, second))
    np.testing.assert_allclose(one, same, 1e-6)


@TASKS
@WAYS
def test_a_saved_estimator_and_a_pickle_show_the_same(fitted, task, way, tmp_path):
    estimator, table = fitted(task, way), problem(task)[0]
    estimator.save(tmp_path / "saved")

    loaded = liftlearn.load(tmp_path / "saved")

    expected = outputs(estimator, table)
    np.testing.assert_array_equal(outputs(loaded, table), expected)
    assert loaded.n_shots_ == 3
    pickled = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(outputs(pickled, table), expected)
    state = (tmp_path / "saved" / "liftlearn.json").read_text()
    assert json.dumps(estimator.context_.sentences[0][0])[1:-1] in state


BROKEN = {
    "a draw of no row": lambda context: {"draws": context.draws + 99},
    "no draws": lambda context: {"draws": context.draws[:, :0]},
    "another count": lambda context: {"n_shots": 2},
    "a row without an answer": lambda context: {"answers": context.answers[1:]},
    "a wording too many": lambda context: {"sentences": context.sentences * 2},
    "a row without a weight": lambda context: {"weight": context.weight[1:]},
    "a seed of -1": lambda context: {"seed": -1},
    "a separator of 3": lambda context: {"separator": 3},
    "numbers as sentences": lambda context: {"sentences": [[1, 2, 3]]},
}


@pytest.mark.parametrize("case", BROKEN)
def test_shots_that_do_not_fit_together_are_not_saved(fitted, case, tmp_path):
    estimator = pickle.loads(pickle.dumps(fitted("classes", "random")))
    broken = BROKEN[case](estimator.context_)
    estimator.context_ = replace(estimator.context_, **broken)

    with pytest.raises(ValueError, match="holds what `load` would not read"):
        estimator.save(tmp_path / "saved")


@pytest.mark.parametrize("part", ["codes", "weight", "positions", "cells"])
def test_neighbours_that_do_not_fit_together_are_not_saved(fitted, part, tmp_path):
    estimator = pickle.loads(pickle.dumps(fitted("classes", "nearest")))
    near = estimator.context_.neighbours
    size, place, state = near.cells
    vars(near).update(
        {
            "codes": {"cells": [size, replace(place, codes=place.codes + 9), state]},
            "weight": {"weight": near.weight[1:]},
            "positions": {
                "cells": [replace(size, positions=size.positions[1:]), place, state]
            },
            "cells": {"cells": [place, state]},
        }[part]
    )

    with pytest.raises(ValueError, match="holds what `load` would not read"):
        estimator.save(tmp_path / "saved")


@WAYS
def test_each_wording_has_its_own_shots_and_the_mean_is_predicted(llama_folder, way):
    table, target = problem("classes")
    estimator = estimator_of("classes", llama_folder, shots=way)
    estimator.set_params(decoder=LabelDecoder(n_wordings=3)).fit(table, target)

    prompts = estimator._prompts(table)

    assert len(prompts) == 3
    assert len(set(zip(*prompts, strict=True))) == len(table)
    assert all(len({*each}) >= 2 for each in zip(*prompts, strict=True))
    lm = estimator.language_model_
    each = [np.exp(lm.score(p, [f"{a}\n" for a in LABELS])) for p in prompts]
    np.testing.assert_allclose(
        estimator.predict_proba(table), np.mean(each, axis=0), 1e-5
    )


@pytest.mark.parametrize(
    "tuner",
    [
        FineTuner(max_steps=2, n_models=2),
        FineTuner(n_epochs=1, early_stopping=True),
        FineTuner(max_steps=2, constrained=False),
        FineTuner(n_epochs=0, n_models=2),
    ],
    ids=["members", "early stopping", "all tokens compete", "members untrained"],
)
@pytest.mark.parametrize("way", ["random", "nearest"])
def test_shots_go_with_every_way_of_training(llama_folder, tuner, way):
    table, target = problem("classes")

    estimator = estimator_of("classes", llama_folder, shots=way, finetuner=tuner)
    proba = estimator.fit(table, target).predict_proba(table)

    np.testing.assert_allclose(proba.sum(axis=1), 1)
    again = clone(estimator).fit(table, target).predict_proba(table)
    np.testing.assert_array_equal(proba, again)


def test_an_interrupted_fit_with_shots_goes_on_as_it_was(llama_folder, tmp_path):
    table, target = problem("classes")
    settings = {"n_epochs": 3, "batch_size": 4, "learning_rate": 0.01}
    whole = estimator_of("classes", llama_folder, finetuner=FineTuner(**settings))
    tuner = FineTuner(**settings, checkpoint_dir=tmp_path, checkpoint_every=1)
    resumed = clone(whole).set_params(finetuner=tuner)
    n_left = [4]  # the first tells one fit from another

    def stop(*args):
        n_left[0] -= 1
        if not n_left[0]:
            raise KeyboardInterrupt
        return write(*args)

    write = Corpus.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Corpus, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            resumed.fit(table, target)
    assert list(tmp_path.iterdir())
    other = clone(resumed).set_params(n_shots=2)
    with pytest.raises(ValueError, match="other "):
        other.fit(table, target)

    resumed.fit(table, target)

    expected = whole.fit(table, target).predict_proba(table)
    np.testing.assert_array_equal(resumed.predict_proba(table), expected)


def test_an_adapter_is_tuned_and_saved_with_shots(llama_folder, tmp_path):
    peft = pytest.importorskip("peft")
    table, target = problem("classes")
    config = peft.LoraConfig(r=2, target_modules="all-linear")
    tuner = FineTuner(max_steps=2, adapter=config, mixed_precision="no")
    estimator = estimator_of("classes", llama_folder, finetuner=tuner)
    expected = estimator.fit(table, target).predict_proba(table)

    estimator.save(tmp_path / "saved")

    loaded = liftlearn.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(table), expected)


@WAYS
def test_quantiles_draws_and_conformal_intervals_are_of_the_shown_rows(fitted, way):
    regressor = pickle.loads(pickle.dumps(fitted("numbers", way)))
    table, target = problem("numbers")

    distribution = regressor.predict_distribution(table)
    regressor.conformalize(table, target)

    np.testing.assert_array_equal(
        regressor.predict(table, quantiles=[0.1, 0.9]),
        distribution.ppf([[0.1], [0.9]]).T,
    )
    assert regressor.sample_y(table, 4, random_state=0).shape == (12, 4)
    lower, upper = regressor.predict_interval(table, 0.8).T
    assert np.mean((lower <= target) & (target <= upper)) >= 0.8


@TASKS
@WAYS
def test_an_encoder_of_ones_own_writes_the_shots(llama_folder, task, way):
    class Counter:
        def fit(self, X, y):
            return self

        def transform(self, X):
            return [f"{cell}?" for cell in X["size"]]

    table, target = problem(task)
    estimator = estimator_of(task, llama_folder, encoder=Counter(), shots=way)

    prompts = estimator.fit(table, target)._prompts(table)

    assert [p.split("\n")[-1] for p in prompts] == Counter().transform(table)
    assert {prompt.count("\n") for prompt in prompts} == {3}


# What fits


def test_more_shots_than_rows_are_as_many_as_there_are(llama_folder):
    table, target = problem("classes")
    asked = estimator_of("classes", llama_folder, n_shots=50)

    with pytest.warns(UserWarning, match=r"n_shots=50, but there are 12 .*\"all\""):
        asked.fit(table, target)

    assert asked.n_shots_ == 12
    everything = clone(asked).set_params(n_shots="all").fit(table, target)
    np.testing.assert_array_equal(
        asked.predict_proba(table), everything.predict_proba(table)
    )


@WAYS
@pytest.mark.parametrize("family", ["gpt2_folder", "llama_folder", "embedded"])
def test_as_many_shots_are_shown_as_the_model_can_read(family, way, request):
    if family == "embedded":
        folder = str(resources.files("liftlearn") / "embedded")
    else:
        folder = request.getfixturevalue(family)
    texts = [f"{i} " + "word " * (7 * i % 90) for i in range(160)]
    table = pd.DataFrame({"note": texts, "x": np.arange(160.0)})
    labels = np.array(["no", "yes"] * 80)
    encoder = RowEncoder(text_length=None)
    estimator = estimator_of(
        "classes", folder, encoder=encoder, n_shots="all", shots=way
    ).fit(table, labels)

    prompts = estimator._prompts(table)

    assert 1 <= estimator.n_shots_ < 160
    assert {prompt.count("\n") for prompt in prompts} == {estimator.n_shots_}
    estimator.predict_proba(table[:3])
    with pytest.warns(UserWarning, match="n_shots=150, but the model reads no more"):
        clone(estimator).set_params(n_shots=150).fit(table, labels)


def test_a_longer_row_than_those_of_fit_has_fewer_before_it(gpt2_folder):
    table = pd.DataFrame({"note": [f"note {i}" for i in range(60)]})
    labels = np.array(["no", "yes"] * 30)
    estimator = estimator_of("classes", gpt2_folder, n_shots="all").fit(table, labels)
    new = pd.DataFrame({"note": ["note 1", "word " * 150, "word " * 196]})

    prompts = estimator._prompts(new)

    counts = [prompt.count("\n") for prompt in prompts]
    assert counts[0] == estimator.n_shots_
    assert counts[0] > counts[1] > counts[2] >= 0
    assert estimator.predict_proba(new).shape == (3, 2)
    np.testing.assert_allclose(
        estimator.predict_proba(new[:1]), estimator.predict_proba(new)[:1], 1e-4
    )


def test_rows_of_which_none_fits_before_another_are_refused(gpt2_folder):
    table = pd.DataFrame({"note": [f"{i} " + "word " * 110 for i in range(12)]})
    labels = np.array(["no", "yes"] * 6)

    with pytest.raises(ValueError, match=r"n_shots=3 .*does not fit.*n_shots=0"):
        estimator_of("classes", gpt2_folder).fit(table, labels)


def test_without_training_the_model_stays_as_it_is(fitted, llama_folder):
    base = LanguageModel.load(llama_folder).model.state_dict()

    estimator = fitted("classes", "random")

    for name, weight in estimator.language_model_.model.state_dict().items():
        assert (weight == base[name]).all()
    assert estimator.finetuner_.history_ == []


def test_a_grid_search_reaches_the_shots(llama_folder):
    estimator = estimator_of("numbers", llama_folder)
    estimator.set_params(n_shots=2, shots="nearest", decoder=NumberDecoder(low=0))

    assert clone(estimator).get_params()["shots"] == "nearest"
    assert estimator.fit(*problem("numbers")).n_shots_ == 2
