"""Every public method says what it expected, what came, and what to do."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from liftlearn import (
    DensityDisplay,
    FineTuner,
    IntervalDisplay,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    NumberDecoder,
    RowEncoder,
    TrainingDisplay,
    neg_crps_scorer,
)

RNG = np.random.RandomState(0)
N = 12
X = pd.DataFrame({"a": RNG.randn(N), "b": RNG.randn(N)})
LABELS = np.arange(N) % 2
NUMBERS = X["a"].to_numpy()


def classifier(**parameters):
    short = {"finetuner": FineTuner(max_steps=1, n_models=1), "random_state": 0}
    return LIFTClassifier(**{**short, **parameters})


def regressor(**parameters):
    short = {"finetuner": FineTuner(max_steps=1, n_models=1), "random_state": 0}
    return LIFTRegressor(**{**short, **parameters})


@pytest.fixture(scope="module")
def fitted():
    """Return one of each public thing, ready to be asked."""
    numbers = regressor().fit(X, NUMBERS)
    return SimpleNamespace(
        classes=classifier().fit(X, LABELS),
        numbers=numbers,
        distribution=numbers.predict_distribution(X),
        encoder=RowEncoder().fit(X),
        lm=LanguageModel.load(),
    )


def check(calls, fitted, case):
    call, words = calls[case]
    with pytest.raises((ValueError, TypeError), match=words) as raised:
        call(fitted)
    # Not what numpy, Python or torch say.
    place = str(raised.traceback[-1].path)
    assert "liftlearn" in place or "sklearn" in place


def of_labels(y, **parameters):
    return lambda _: classifier(**parameters).fit(X, y)


def of_numbers(y, **parameters):
    return lambda _: regressor(**parameters).fit(X, y)


ONE = np.eye(N)[0]
TARGETS = {
    "labels of two types": (of_labels(pd.Series([1, "a"] * 6)), r"\['int', 'str'\]"),
    "labels that are dicts": (of_labels([{"a": 1}] * N), r"one type as y.*\['dict'\]"),
    "labels of unlike lists": (of_labels([[1], [2, 3]] * 6), "multi-label"),
    "two columns of labels": (of_labels(np.c_[LABELS, LABELS]), r"shape \(12, 2\)"),
    "a name as labels": (of_labels("a"), r"shape \(\)"),
    "continuous labels": (of_labels(NUMBERS), "continuous"),
    "complex labels": (of_labels(LABELS * 1j), "Complex data"),
    "too few labels": (of_labels(LABELS[1:]), r"inconsistent numbers.*\[12, 11\]"),
    "no labels": (of_labels(None), "requires y"),
    "texts": (of_numbers(["a"] * N), "numbers as y, got 'a' in row 0. LIFTClassifier"),
    "a text": (of_numbers([1.0] * 11 + ["a"]), "numbers as y, got 'a' in row 11"),
    "categories": (of_numbers(pd.Categorical(["u", "v"] * 6)), "got 'u' in row 0"),
    "dates": (of_numbers(pd.date_range("2024", periods=N)), "numbers as y, got date"),
    "durations": (of_numbers(pd.to_timedelta(range(N), "s")), "got timedelta64"),
    "dicts": (of_numbers([{}] * N), "numbers as y, got {} in row 0"),
    "unlike lists": (of_numbers([[1.0], [2.0, 3.0]] * 6), r"got \[1.0\] in row 0"),
    "a missing number": (of_numbers([None] + [1.0] * 11), "NaN: the label of row 0"),
    "a missing nullable": (of_numbers(pd.array([1.0] * 11 + [None])), "row 11"),
    "an infinite object": (
        of_numbers(pd.Series([np.inf] + [1.0] * 11, dtype=object)),
        "y contains infinity",
    ),
    "nan as text": (of_numbers(["nan"] * N), "y contains NaN"),
    "too large": (
        of_numbers(pd.Series([10**400] + [1] * 11, dtype=object)),
        r"got 10{59}\.\.\.",
    ),
    "a target to predict": (lambda f: f.numbers.score(X, LABELS[:3]), "inconsistent"),
}


@pytest.mark.parametrize("case", TARGETS)
def test_a_wrong_target_is_told(fitted, case):
    check(TARGETS, fitted, case)


def weighted(weight, **parameters):
    return lambda _: classifier(**parameters).fit(X, LABELS, sample_weight=weight)


def class_weighted(**weights):
    of_class = {int(name[1:]): weight for name, weight in weights.items()}
    return of_labels(LABELS, class_weight=of_class)


def two(**parameters):
    finetuner = FineTuner(max_steps=1, **parameters)
    return lambda _: classifier(finetuner=finetuner).fit(X[:2], LABELS[:2])


WEIGHTS = {
    "texts": (weighted(["a"] * N), "numbers as sample_weight, got 'a' in row 0"),
    "a word": (weighted("balanced"), "numbers as sample_weight, got 'balanced'"),
    "a dict": (weighted({0: 1}), "numbers as sample_weight, got {0: 1}"),
    "complex": (weighted(1j * ONE), "numbers as sample_weight, got complex"),
    "missing": (weighted([None] + [1] * 11), "sample_weight contains NaN"),
    "two columns": (weighted(np.ones((N, 2))), "must be 1D"),
    "too few": (weighted([1.0]), r"sample_weight.shape == \(1,\)"),
    "of a class: negative": (class_weighted(_0=-1, _1=1), "weight of class 0 .* -1"),
    "of a class: nan": (class_weighted(_0=1, _1=np.nan), "weight of class 1 .* nan"),
    "of a class: infinite": (class_weighted(_0=np.inf), "weight of class 0 .* inf"),
    "of a class: text": (class_weighted(_0="a"), "weight of class 0 .* 'a'"),
    "of a class: None": (class_weighted(_0=None), "weight of class 0 .* None"),
    "of no class": (class_weighted(_5=1), r"\[5\], which is no class"),
    "of all classes zero": (class_weighted(_0=0, _1=0), "at least one non-zero"),
    "one row that stops": (
        weighted(ONE, finetuner=FineTuner(max_steps=1, early_stopping=True)),
        "1 of 1 .*so that none is left .*early_stopping=False, n_models=1",
    ),
    "one row, several models": (
        weighted(ONE, finetuner=FineTuner(max_steps=1, n_models=2)),
        "none is left to learn from",
    ),
    "all rows left out": (
        two(early_stopping=True, validation_fraction=0.9),
        r"2 of 2 \(validation_fraction=0.9",
    ),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_a_wrong_weight_is_told(fitted, case):
    check(WEIGHTS, fitted, case)


@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_one_row_is_enough_for_one_model_that_learns_to_the_end(target):
    estimator, y = (
        (classifier(), LABELS) if target == "classes" else (regressor(), NUMBERS)
    )

    assert len(estimator.fit(X[:1], y[:1]).predict(X)) == N


class Silent:
    """A part that does nothing, whichever it is."""

    def fit(self, X, y=None):
        return self

    def finetune(self, lm, corpus, rng, *, metric, verbose):
        return None

    def predict_proba(self, lm, prompts):
        return None


class Forgetful(Silent):
    def fit(self, X, y=None):
        return None

    def transform(self, X):
        return ["a"] * len(X)


class Short(Silent):
    def transform(self, X):
        return ["a"]


class Gives(FineTuner):
    """A fine-tuner that makes something of the members."""

    def __init__(self, made=None):
        super().__init__(max_steps=1)
        self.made = made

    def finetune(self, *args, **options):
        return self.made(super().finetune(*args, **options))


GIVEN = {
    "no members": lambda members: [],
    "models without what they left out": lambda members: [members[0].lm],
    "a model and half a pair": lambda members: [*members, (members[0].lm,)],
    "rows for a corpus": lambda members: [(members[0].lm, X)],
    "pairs the wrong way round": lambda members: [(None, members[0].lm)],
    "a class": lambda members: LanguageModel,
    "a member of a class": lambda members: [(LanguageModel, None)],
    "one member": lambda members: members[0],
    "a dict": lambda members: {"lm": members[0].lm},
    "a text": lambda members: "model",
    "an iterator": iter,
    "a number": lambda members: 1.0,
}


@pytest.mark.parametrize("case", GIVEN)
def test_what_a_finetuner_may_return_is_told(case):
    with pytest.raises(TypeError, match=r"a pair for each of several.* Gives returned"):
        classifier(finetuner=Gives(GIVEN[case])).fit(X, LABELS)


def with_part(**part):
    return lambda _: classifier(**part).fit(X, LABELS)


INSTANCE = r"\(an instance, not a class\)"
PARTS = {
    "a class of encoders": (with_part(encoder=RowEncoder), INSTANCE),
    "a class of fine-tuners": (with_part(finetuner=FineTuner), INSTANCE),
    "a class of decoders": (with_part(decoder=LabelDecoder), INSTANCE),
    "a class of adapters": (
        with_part(finetuner=FineTuner(adapter=LoraConfig)),
        f"'adapter' parameter .*{INSTANCE}",
    ),
    "a fine-tuner that encodes": (with_part(finetuner=RowEncoder()), "'finetune'"),
    "a dict": (with_part(finetuner={"max_steps": 3}), "'finetuner' parameter"),
    "an encoder of arrays": (
        with_part(encoder=StandardScaler()),
        "StandardScaler gave",
    ),
    "an encoder of sparse": (with_part(encoder=OneHotEncoder()), "OneHotEncoder gave"),
    "an encoder of few": (with_part(encoder=Short()), "each of 12 rows .* gave 1"),
    "a forgetful encoder": (with_part(encoder=Forgetful()), "Return self there"),
    "a classifier": (with_part(decoder=LogisticRegression()), "Use a LabelDecoder"),
    "a decoder of one's own": (with_part(decoder=Silent()), "Use a LabelDecoder"),
    "a regressor": (
        lambda _: regressor(decoder=Ridge()).fit(X, NUMBERS),
        "a NumberDecoder for numbers",
    ),
    "a decoder of labels": (
        lambda _: regressor(decoder=LabelDecoder()).fit(X, NUMBERS),
        "'decoder' parameter of LIFTRegressor",
    ),
    "a silent fine-tuner": (with_part(finetuner=Silent()), "Silent returned None"),
    "a parameter of a class": (
        lambda _: classifier(finetuner=FineTuner).set_params(finetuner__max_steps=3),
        "has no parameters to set. Give an instance of FineTuner",
    ),
    "a parameter of a word": (
        lambda _: classifier(encoder="names").set_params(encoder__digits=3),
        "encoder='names' has no parameters",
    ),
    "no such parameter": (
        lambda _: classifier().set_params(finetuner__maxsteps=3),
        "Invalid parameter 'maxsteps'",
    ),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_wrong_part_is_told(fitted, case):
    check(PARTS, fitted, case)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "cpu cpu", "meta", "xla"])
def test_what_is_no_device_here_is_told(device):
    for load in (LanguageModel.load, lambda device: with_part(device=device)(None)):
        with pytest.raises(ValueError, match=f"{device!r}.*None"):
            load(device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_told(device):
    with pytest.raises(ValueError, match=f"device={device!r} is not on this machine"):
        classifier(device=device).fit(X, LABELS)


ONE_NUMBER = "Give one number, such as 0.9"
QUESTIONS = {
    **{
        f"an interval of {coverage!r}": (
            lambda f, coverage=coverage: f.numbers.predict_interval(X, coverage),
            rf"share in \(0, 1\), got .*{ONE_NUMBER}",
        )
        for coverage in ([0.5, 0.9], "0.9", None, True, np.nan, 90, 0, 1, 0.9j)
    },
    "a set of several": (lambda f: f.classes.predict_set(X, [0.5]), ONE_NUMBER),
    "a set of None": (lambda f: f.classes.predict_set(X, None), ONE_NUMBER),
    "several intervals": (lambda f: f.distribution.interval([0.5, 0.9]), ONE_NUMBER),
    "intervals of text": (lambda f: f.distribution.interval("all"), ONE_NUMBER),
    "quantiles beyond": (
        lambda f: f.numbers.predict(X, quantiles=[0.5, 1.5]),
        r"in \[0, 1\], got \[0.5, 1.5\]",
    ),
    "quantiles as a flag": (
        lambda f: f.numbers.predict(X, quantiles=True),
        r"as quantiles shares in \[0, 1\], got True",
    ),
    "quantiles of text": (
        lambda f: f.numbers.predict(X, quantiles="half"),
        "numbers as quantiles, got 'half'",
    ),
    "quantiles that miss": (lambda f: f.numbers.predict(X, quantiles=np.nan), "NaN"),
    "quantiles and deviations": (
        lambda f: f.numbers.predict(X, True, quantiles=[0.5]),
        "quantiles or return_std=True, got both",
    ),
    "a table of quantiles": (
        lambda f: f.numbers.predict(X, quantiles=[[0.5]]),
        "one share or a list of them",
    ),
    **{
        f"{n!r} draws": (
            lambda f, n=n: f.classes.sample_y(X, n),
            "n_samples is a whole number of at least 1, got",
        )
        for n in (0, -1, 2.5, "3", None, True, (2, 3))
    },
    "draws of a distribution": (lambda f: f.distribution.sample("a"), "n_samples is"),
    **{
        f"a temperature of {t!r}": (
            lambda f, t=t: f.numbers.sample_y(X, temperature=t),
            "temperature is a positive number, got",
        )
        for t in (0, -1.0, np.nan, np.inf, "hot", None, [1.0, 2.0], True)
    },
    "a seed of text": (lambda f: f.classes.sample_y(X, random_state="a"), "'a' cannot"),
    "other labels": (lambda f: f.classes.conformalize(X, ["q"] * N), r"seen: \['q'\]"),
    "words to hold out": (lambda f: f.numbers.conformalize(X, ["q"] * N), "got 'q'"),
    "nothing to hold out": (lambda f: f.numbers.conformalize(X, None), "requires y"),
    "places of text": (lambda f: f.distribution.cdf(["a"] * N), "as x, got 'a'"),
    "places that miss": (lambda f: f.distribution.cdf([np.nan] * N), "x contains NaN"),
    "no places": (lambda f: f.distribution.crps(None), "y contains NaN"),
    "other places": (
        lambda f: f.distribution.logpdf([1.0, 2.0]),
        r"each of the 12 rows.*shape \(2,\).*reshape\(x, \(-1, 1\)\)",
    ),
    "a score of a place": (
        lambda f: f.distribution.crps(1.0),
        "each of the 12 rows",
    ),
    "a row too far": (lambda f: f.distribution.to_scipy(N), "12 rows, got 12.*0 to 11"),
    "a row by name": (lambda f: f.distribution.to_scipy("a"), "got 'a'"),
    "a score of classes": (
        lambda f: neg_crps_scorer(f.classes, X, LABELS),
        "scores a LIFTRegressor.*neg_log_loss",
    ),
    "a score of a class": (
        lambda f: neg_crps_scorer(LIFTRegressor, X, NUMBERS),
        "scores a LIFTRegressor",
    ),
    "bands of classes": (
        lambda f: IntervalDisplay.from_estimator(f.classes, X),
        "Expected a LIFTRegressor, got LIFTClassifier",
    ),
    "bands along no column": (
        lambda f: IntervalDisplay.from_estimator(f.numbers, X, x="q"),
        "Expected a column of X as x.* got 'q'",
    ),
    "bands along no place": (
        lambda f: IntervalDisplay.from_estimator(f.numbers, X, x=["a", "b"]),
        "for each of 12 rows",
    ),
    "bands of one coverage": (
        lambda f: IntervalDisplay.from_estimator(f.numbers, X, coverages=0.9),
        r"Write \[0.9\]",
    ),
    "bands and few numbers": (
        lambda f: IntervalDisplay.from_estimator(f.numbers, X, NUMBERS[:2]),
        r"each of 12 rows as y, got an array of shape \(2,\)",
    ),
    "densities of classes": (
        lambda f: DensityDisplay.from_estimator(f.classes, X),
        "Expected a LIFTRegressor",
    ),
    "densities and few numbers": (
        lambda f: DensityDisplay.from_estimator(f.numbers, X, NUMBERS[:2]),
        "each of 12 rows",
    ),
    "training of nothing": (
        lambda _: TrainingDisplay.from_estimator(None),
        "Expected a LIFTClassifier or LIFTRegressor, got None",
    ),
    "training drawn on a number": (
        lambda f: TrainingDisplay.from_estimator(f.classes, ax=3),
        "Expected the Axes of a matplotlib figure, got 3",
    ),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_a_wrong_question_is_told(fitted, case):
    check(QUESTIONS, fitted, case)


RS = np.random.RandomState(0)
LOW_LEVEL = {
    "a seed for sentences": (lambda f: f.encoder.augment(X, 0), "RandomState as rng"),
    "a generator": (
        lambda f: f.encoder.augment(X, np.random.default_rng(0)),
        "RandomState as rng",
    ),
    "progress in words": (
        lambda f: f.encoder.augment(X, RS, "half"),
        "progress of training is a share",
    ),
    **{
        f"{n!r} wordings": (
            lambda f, n=n: f.encoder.reword(X, n),
            "n_wordings is a whole number of at least 1",
        )
        for n in (0, -1, "two", 1.5, None)
    },
    "labels of two types": (lambda _: LabelDecoder().fit([1, None]), "label of row 1"),
    "objects": (lambda _: LabelDecoder().fit(pd.Series([1, "a"])), r"\['int', 'str'\]"),
    "a table of labels": (lambda _: LabelDecoder().fit(X), r"shape \(12, 2\)"),
    "no labels": (lambda _: LabelDecoder().fit(None), "requires y"),
    "an empty list": (lambda _: LabelDecoder().fit([]), "0 sample"),
    "words as numbers": (lambda _: NumberDecoder().fit(["a"]), "as y, got 'a'"),
    "no numbers": (lambda _: NumberDecoder().fit([]), "0 sample"),
    "missing numbers": (lambda _: NumberDecoder().fit([np.nan, 1.0]), "NaN"),
    "few weights": (
        lambda _: NumberDecoder().fit([1.0, 2.0], sample_weight=[1.0]),
        r"sample_weight.shape == \(1,\)",
    ),
    "no sentences": (
        lambda f: f.classes.decoder_.predict_proba(f.lm, []),
        r"Expected a list of sentences as prompts, got \[\]",
    ),
    "one sentence": (
        lambda f: f.numbers.decoder_.predict(f.lm, "x0 53 y="),
        "Expected a list of sentences as prompts",
    ),
    "wordings of other rows": (
        lambda f: f.classes.decoder_.predict_proba(f.lm, [["a", "b"], ["c"]]),
        r"lists of \[2, 1\] sentences",
    ),
    "no model": (
        lambda f: f.classes.decoder_.predict_proba(None, ["a"]),
        "Expected a language model as lm, got None",
    ),
    "no answers": (lambda f: f.lm.score(["a"], []), "one answer or more"),
    "an answer": (lambda f: f.lm.score(["a"], "y0"), "list of str as answers"),
    "numbers as answers": (lambda f: f.lm.score(["a"], [0, 1]), "list of str as answ"),
    "a prompt": (lambda f: f.lm.score("a", ["y0", "y1"]), "list of str as prompts"),
    "numbers as prompts": (lambda f: f.lm.prompt_tokens([1]), "list of str as prompts"),
    "no prompts": (lambda f: f.lm.score(None, ["y0", "y1"]), "list of str as prompts"),
    "no tokens": (lambda f: f.lm.padded([]), "tokens of one row or more"),
    **{
        f"batches of {n!r}": (
            lambda f, n=n: f.lm.score(["a"], ["y0", "y1"], batch_size=n),
            "batch_size is a whole number of at least 1",
        )
        for n in (0, -3, "a", 1.5)
    },
}


@pytest.mark.parametrize("case", LOW_LEVEL)
def test_a_part_that_is_used_alone_tells_what_is_wrong(fitted, case):
    check(LOW_LEVEL, fitted, case)


@pytest.mark.parametrize(
    "call",
    [
        lambda: classifier().predict(X),
        lambda: classifier().predict_set(X),
        lambda: regressor().predict_interval(X),
        lambda: regressor().sample_y(X),
        lambda: regressor().conformalize(X, NUMBERS),
        lambda: neg_crps_scorer(regressor(), X, NUMBERS),
        lambda: TrainingDisplay.from_estimator(classifier()),
        lambda: RowEncoder().transform(X),
        lambda: RowEncoder().augment(X, np.random.RandomState(0)),
        lambda: RowEncoder().reword(X, 2),
        lambda: LabelDecoder().predict_proba(LanguageModel.load(), ["a"]),
        lambda: LabelDecoder().calibrate([]),
        lambda: NumberDecoder().predict(LanguageModel.load(), ["a"]),
    ],
)
def test_what_is_not_fitted_says_so(call):
    with pytest.raises(NotFittedError, match="not fitted"):
        call()
