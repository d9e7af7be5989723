"""A fit happens whole or not at all, and whatever its caller has switched."""

import copy
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    NumberDecoder,
    RowEncoder,
)

ESTIMATORS = {"classes": LIFTClassifier, "numbers": LIFTRegressor}


def table(n_rows=24, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {"x": rng.normal(size=n_rows), "kind": rng.choice(["p", "q"], n_rows)}
    )
    return X, (X["x"] > 0).astype(int)


def quick(estimator=LIFTClassifier, *, n_models=1, **parameters):
    tuner = FineTuner(max_steps=4, n_models=n_models)
    return estimator(**{"finetuner": tuner, "random_state": 0, **parameters})


# What fails leaves nothing behind


class Fails(RowEncoder):
    """Is interrupted when it writes rows for training, after all else was learnt."""

    def augment(self, X, rng, progress=0.0):
        raise KeyboardInterrupt


@pytest.mark.parametrize("estimator", ESTIMATORS.values())
@pytest.mark.parametrize(
    "fault",
    [
        {"encoder": Fails()},
        {"encoder": RowEncoder(descriptions={"none such": "?"})},
        {"finetuner": FineTuner(learning_rate=1e30, max_steps=4)},
        {"random_state": "none"},
        {"model": "./none such"},
    ],
)
def test_a_fit_that_fails_leaves_the_earlier_one_as_it_was(estimator, fault):
    X, y = table()
    fitted = quick(estimator).fit(X, y)
    fitted.conformalize(X, y)
    before, predicted = dict(vars(fitted)), fitted.predict(X)
    own = {name: getattr(fitted, name) for name in fault}
    fitted.set_params(**fault)

    with pytest.raises((ValueError, OSError, KeyboardInterrupt)):
        fitted.fit(X.assign(more=1.5)[["more", "x"]][:20], 1000 * y[:20])

    fitted.set_params(**own)
    assert vars(fitted).keys() == before.keys()
    assert all(vars(fitted)[name] is before[name] for name in before)
    np.testing.assert_array_equal(fitted.predict(X), predicted)


@pytest.mark.parametrize("estimator", ESTIMATORS.values())
def test_an_estimator_whose_first_fit_failed_is_not_fitted(estimator, tmp_path):
    X, y = table()
    unfitted = quick(estimator, encoder=Fails())
    with pytest.raises(KeyboardInterrupt):
        unfitted.fit(X, y)
    for use in (
        lambda: unfitted.predict(X),
        lambda: unfitted.conformalize(X, y),
        lambda: unfitted.save(tmp_path / "folder"),
    ):
        with pytest.raises(NotFittedError):
            use()


@pytest.mark.parametrize(
    ("part", "good", "bad"),
    [
        (RowEncoder(template="{x}"), (table()[0],), (table()[0][["kind"]],)),
        (LabelDecoder(words={0: "no", 1: "yes"}), ([0, 1],), ([0, 2],)),
        (NumberDecoder(low=0), ([0.0, 1.0],), ([-1.0, 1.0],)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_part_whose_fit_fails_stays_as_it_was(part, good, bad):
    part.fit(*good)
    before = copy.copy(vars(part))
    with pytest.raises(ValueError, match=r"template|word|low"):
        part.fit(*bad)
    assert vars(part) == before


def test_a_new_fit_forgets_what_only_the_earlier_one_knew():
    X, y = table()
    classifier = quick().fit(X, y).conformalize(X, y)
    classifier.fit(X[["x"]].to_numpy(), y)
    assert classifier.n_features_in_ == 1
    assert not hasattr(classifier, "feature_names_in_")
    assert not hasattr(classifier, "conformity_scores_")


def test_a_thread_that_predicts_meets_one_fit_or_the_other():
    X, y = table()
    classifier = quick().fit(X, y)
    state = vars(classifier)
    classifier.fit(X, 1 - y)
    assert vars(classifier) is not state  # exchanged at once, not changed


# What the caller has switched


class DefaultType:
    """Switches the type of new tensors, which is the process's."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __enter__(self):
        self.former = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *error):
        torch.set_default_dtype(self.former)


SWITCHED = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "meta device": lambda: torch.device("meta"),
    "float64": lambda: DefaultType(torch.float64),
    "float16": lambda: DefaultType(torch.float16),
    "numpy raises": lambda: np.errstate(all="raise"),
}


@pytest.mark.parametrize("switched", SWITCHED.values(), ids=SWITCHED)
def test_what_the_caller_switches_changes_no_fit_and_no_prediction(
    switched, gpt2_folder, tmp_path
):
    X, y = table()
    plain = quick(model=gpt2_folder).fit(X, y)
    expected = plain.predict_proba(X)
    new = shutil.copytree(gpt2_folder, tmp_path / "model")  # loaded within, too

    with switched():
        predicted = plain.predict_proba(X)
        fitted = quick(model=new).fit(X, y)
        again = fitted.predict_proba(X)

    np.testing.assert_array_equal(predicted, expected)
    np.testing.assert_array_equal(again, expected)
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)
    assert LanguageModel.load(new).model.dtype == torch.float32


def test_an_adapter_is_learnt_within_inference_mode_and_autocast(gpt2_folder):
    X, y = table()
    adapter = LanguageModel.load(gpt2_folder).default_adapter()
    tuner = FineTuner(max_steps=3, adapter=adapter, mixed_precision="no")
    expected = quick(finetuner=tuner, model=gpt2_folder).fit(X, y).predict_proba(X)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        fitted = quick(finetuner=tuner, model=gpt2_folder).fit(X, y)
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)


# Training that diverges


@pytest.mark.parametrize("estimator", ESTIMATORS.values())
@pytest.mark.parametrize("n_steps", [1, 30])  # found in the weights, or by a loss
def test_training_that_diverges_is_an_error_that_names_the_rate(estimator, n_steps):
    X, y = table()
    tuner = FineTuner(
        learning_rate=1e38, max_steps=n_steps, warmup_ratio=0.0, max_grad_norm=1e30
    )
    with pytest.raises(ValueError, match=r"diverged: after \d+ steps.*=1e\+38"):
        quick(estimator, finetuner=tuner).fit(X, y)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS.values())
def test_a_loss_that_rises_far_above_a_guess_is_told(estimator):
    X, y = table()
    tuner = FineTuner(learning_rate=1000.0, max_steps=8, n_models=1)
    with pytest.warns(ConvergenceWarning, match=r"learning_rate=1000\.0 is too high"):
        fitted = quick(estimator, finetuner=tuner).fit(X, y)
    assert np.isfinite(fitted.predict(X)).all()


# Weights are proportions


@pytest.mark.parametrize("scale", [10, 1 / 3, 1e-310, 1e300])
@pytest.mark.parametrize("n_models", [1, 2])
def test_only_the_proportions_of_weights_count(scale, n_models):
    X, y = table(40)
    weight = np.random.default_rng(1).integers(1, 4, 40).astype(float)
    expected = quick(n_models=n_models).fit(X, y, weight).predict_proba(X)
    scaled = quick(n_models=n_models).fit(X, y, weight * scale)
    np.testing.assert_array_equal(scaled.predict_proba(X), expected)


@pytest.mark.parametrize("scale", [7, 1e-300, 1e300])
def test_only_the_proportions_of_class_weights_count(scale):
    X, y = table()
    expected = quick(class_weight={0: 1, 1: 3}).fit(X, y).predict_proba(X)
    scaled = quick(class_weight={0: scale, 1: 3 * scale}).fit(X, y)
    np.testing.assert_array_equal(scaled.predict_proba(X), expected)


def test_weights_as_far_apart_as_floats_allow_are_learnt_from():
    X, y = table()
    weight = np.where(np.arange(len(X)) % 2, 1e-310, 1e308)
    proba = quick(n_models=2).fit(X, y, weight).predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
