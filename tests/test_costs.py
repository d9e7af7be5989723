"""What a fit is said to cost, against what one takes."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import blobs

from liftlearn import FineTuner, LIFTClassifier, LIFTRegressor
from liftlearn._finetuner import PeakMemory

X, LABELS = blobs(60)
NUMBERS = X @ np.arange(1.0, X.shape[1] + 1)
TUNERS = {
    "steps": {"max_steps": 7, "n_models": 1},
    "epochs": {"n_epochs": 2, "n_models": 1, "max_steps": None},
    "steps amid an epoch": {"max_steps": 3, "n_models": 1, "batch_size": 24},
    "accumulated": {
        "n_epochs": 3,
        "max_steps": None,
        "n_models": 1,
        "gradient_accumulation_steps": 3,
    },
    "held out": {"n_epochs": 1, "max_steps": None, "n_models": 2},
    "none": {"n_epochs": 0, "n_models": 1},
}


@pytest.mark.parametrize("name", TUNERS)
@pytest.mark.parametrize("kind", [LIFTClassifier, LIFTRegressor])
def test_steps_and_tokens_are_those_that_a_fit_takes(kind, name):
    y = LABELS if kind is LIFTClassifier else NUMBERS
    estimator = kind(finetuner=FineTuner(**TUNERS[name]), n_shots=0, random_state=0)

    cost = estimator.estimate_cost(X, y)

    tuner = estimator.fit(X, y).finetuner_
    assert cost.n_models == tuner.n_models_
    assert cost.n_tokens == sum(epoch["tokens"] for epoch in tuner.history_)
    if cost.n_models == 1:
        assert cost.n_steps == tuner.n_steps_
    assert cost.fit_seconds > 0
    assert cost.predict_seconds > 0
    assert cost.fit_memory >= cost.predict_memory > 0 or not cost.n_steps


def test_what_is_left_to_the_table_is_the_most_that_a_fit_takes():
    tuner = FineTuner(max_steps=8)  # members are as many as the rule says
    estimator = LIFTRegressor(finetuner=tuner, random_state=0)
    rows = X[:20], NUMBERS[:20]

    cost = estimator.estimate_cost(*rows)

    tuner = estimator.fit(*rows).finetuner_
    assert cost.n_models >= tuner.n_models_
    assert cost.n_tokens >= sum(epoch["tokens"] for epoch in tuner.history_) > 0


def test_a_fitted_estimator_stays_as_it_is_and_the_next_fit_is_the_same(tmp_path):
    tuner = FineTuner(max_steps=4, n_models=1, checkpoint_dir=tmp_path)
    estimator = LIFTClassifier(finetuner=tuner, random_state=0).fit(X, LABELS)
    before, parameters = dict(vars(estimator)), estimator.get_params()
    seen, settled = estimator.predict_proba(X), dict(vars(estimator.finetuner_))

    estimator.estimate_cost(X[["b"]], LABELS)

    assert vars(estimator) == before
    assert estimator.get_params() == parameters
    assert vars(estimator.finetuner_) == settled
    np.testing.assert_array_equal(estimator.predict_proba(X), seen)
    assert not [*tmp_path.iterdir()]
    np.testing.assert_array_equal(estimator.fit(X, LABELS).predict_proba(X), seen)


def test_a_stream_of_the_users_does_not_move():
    stream, common = np.random.RandomState(0), np.random.mtrand._rand
    tuner = FineTuner(max_steps=1, n_models=1)
    before = common.get_state()[1].tolist()

    LIFTRegressor(finetuner=tuner, random_state=stream).estimate_cost(X, NUMBERS)
    LIFTRegressor(finetuner=tuner).estimate_cost(X, NUMBERS)

    assert common.get_state()[1].tolist() == before
    assert stream.randint(2**31) == np.random.RandomState(0).randint(2**31)


@pytest.mark.parametrize("kind", [LIFTClassifier, LIFTRegressor])
def test_rows_that_are_read_in_context_take_no_steps(kind):
    y = LABELS if kind is LIFTClassifier else NUMBERS

    cost = kind(n_shots="all").estimate_cost(X, y)

    assert (cost.n_models, cost.n_steps, cost.n_tokens) == (1, 0, 0)
    assert cost.fit_memory > 0
    assert "no steps" in repr(cost)


def test_a_warm_start_costs_what_its_members_take():
    tuner = FineTuner(max_steps=3, n_models=2)
    estimator = LIFTClassifier(finetuner=tuner, warm_start=True, n_shots=0)
    estimator.fit(X, LABELS)

    cost = estimator.set_params(finetuner__n_models="auto").estimate_cost(X, LABELS)

    assert (cost.n_models, cost.n_steps) == (2, 6)


def test_a_target_of_one_class_and_rows_in_text_have_a_cost(llama_folder):
    tuner = FineTuner(max_steps=3, n_models=1)
    one = LIFTClassifier(finetuner=tuner)
    table = pd.DataFrame({"size": ["small", "large"] * 6})
    shown = LIFTClassifier(llama_folder, finetuner=tuner, n_shots=2, random_state=0)

    assert one.estimate_cost(X, ["a"] * len(X)).n_steps == 0
    cost = shown.estimate_cost(table, [0, 1] * 6)
    assert cost.n_steps == 3
    assert cost.tokens_per_row > 20  # bytes of three rows


def test_what_fit_refuses_has_no_cost():
    class Own:
        def finetune(self, lm, corpus, rng, *, metric, verbose):
            return lm

    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LIFTClassifier().estimate_cost(X, LABELS[:-1])
    with pytest.raises(ValueError, match="n_epochs"):
        LIFTClassifier(finetuner=FineTuner(n_epochs=-1)).estimate_cost(X, LABELS)
    with pytest.raises(TypeError, match=r"a method estimate.*but Own has none"):
        LIFTClassifier(finetuner=Own()).estimate_cost(X, LABELS)


def test_memory_is_counted_while_tensors_live_and_views_count_once():
    given = torch.zeros(1000)

    with PeakMemory() as memory:
        one = given + 1  # 4,000 bytes
        view = one.view(10, 100)
        one += given
        two = view * 2  # 4,000 more
        del one, view
        three = two[:500].clone().double()  # 2,000 and then 4,000 at most
        del two

    assert memory.most >= 8_000
    assert memory.most <= 4_000 + 4_000 + 4_000 + 8_000
    assert memory.now == three.untyped_storage().nbytes()
