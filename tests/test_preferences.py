"""What a model prefers stands in its config.json, and is checked when it is loaded."""

import json
import shutil

import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    NumberDecoder,
    RowEncoder,
)


@pytest.fixture(scope="module")
def preferring(llama_folder, tmp_path_factory):
    """Return what makes a folder of a model that prefers something."""

    def folder_of(preferences):
        folder = tmp_path_factory.mktemp("model") / "llama"
        shutil.copytree(llama_folder, folder)
        config = json.loads((folder / "config.json").read_text())
        config["liftlearn"] = preferences
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return folder_of


def of(part, task="classification", **parameters):
    return {task: {part: parameters}}


LR = "liftlearn.classification.finetuner.learning_rate"
WRONG = {
    "a list": ([1], "at liftlearn in .*config.json', got \\[1\\]"),
    "a text": ("float64", "at liftlearn in .*got 'float64'"),
    "a number": (0, "at liftlearn in .*got 0"),
    "false": (False, "at liftlearn in .*got False"),
    "another task": ({"clasification": {}}, "at liftlearn in .*got 'clasification'"),
    "a list of parts": (
        {"classification": []},
        r"at liftlearn.classification in.*\[\]",
    ),
    "another part": (
        {"classification": {"encodr": {}}},
        "'finetuner', 'decoder', 'n_shots' at liftlearn.classification in .*codr",
    ),
    "no part": (
        {"regression": {"encoder": None}},
        "at liftlearn.regression.encoder in .*got None",
    ),
    "a part's list": (
        {"regression": {"encoder": ["digits"]}},
        r"at liftlearn.regression.encoder in .*got \['digits'\]",
    ),
    "another parameter": (
        of("finetuner", lerning_rate=1e-3),
        "'learning_rate'.* at liftlearn.classification.finetuner in.*'lerning_rate'",
    ),
    "what only a user chooses": (
        of("finetuner", constrained=False),
        "at liftlearn.classification.finetuner in .*got 'constrained'",
    ),
    "what is not auto": (
        of("decoder", "regression", point="mean"),
        "one of 'grid', 'n_wordings', 'spacing' at liftlearn.regression.decoder",
    ),
    "the other task's": (
        of("decoder", "regression", words="codes"),
        "at liftlearn.regression.decoder in .*got 'words'",
    ),
    "a negative rate": (of("finetuner", learning_rate=-1), rf"\(0.0, inf\) at {LR}"),
    "a rate in words": (of("finetuner", learning_rate="1e-3"), f"at {LR} .*'1e-3'"),
    "a rate of nan": (of("finetuner", learning_rate=float("nan")), f"at {LR} .*nan"),
    "a list of sizes": (
        of("finetuner", batch_size=[8]),
        r"finetuner.batch_size .*\[8\]",
    ),
    "half a row": (of("finetuner", batch_size=8.5), "an int in the range .*8.5"),
    "no size": (of("finetuner", batch_size=None), "finetuner.batch_size .*got None"),
    "true rows": (of("finetuner", batch_size=True), "finetuner.batch_size .*got True"),
    "an adapter": (of("finetuner", adapter={"r": 8}), "finetuner.adapter .*{'r': 8}"),
    "yes": (of("encoder", shuffle_columns="yes"), "encoder.shuffle_columns .*'yes'"),
    "digits in words": (of("encoder", digits="two"), "encoder.digits .*got 'two'"),
    "a question of 3": (of("encoder", question=3), "encoder.question .*got 3"),
    "other words": (of("decoder", words="letters"), "decoder.words .*got 'letters'"),
    "no wording": (of("decoder", n_wordings=0), "decoder.n_wordings .*got 0"),
    "a floaty precision": (
        {"precision": "floaty"},
        "'float32', 'float64', .* at liftlearn.precision in .*got 'floaty'",
    ),
    "a precision of tensors": ({"precision": "int8"}, "liftlearn.precision .*'int8'"),
    "a precision of torch": ({"precision": "Tensor"}, "liftlearn.precision .*'Tensor'"),
    "a rule for what has none": (
        of("finetuner", batch_size="by_table"),
        "finetuner.batch_size .*got 'by_table'",
    ),
    "another rule": (
        of("encoder", columns="small_sample"),
        "'by_table', or .* at liftlearn.classification.encoder.columns .*small_sample",
    ),
    "bits": ({"precision": 64}, "liftlearn.precision .*got 64"),
    "precisions": ({"precision": ["float32"]}, r"liftlearn.precision .*\['float32'\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_preference_is_named_with_its_file_and_key(preferring, case):
    preferences, words = WRONG[case]
    folder = preferring(preferences)

    with pytest.raises(ValueError, match=words) as told:
        LanguageModel.load(folder)
    assert str(folder / "config.json") in str(told.value)


@pytest.mark.parametrize("estimator", [LIFTClassifier, LIFTRegressor])
def test_a_wrong_preference_for_either_task_stops_a_fit(preferring, estimator):
    folder = preferring(of("encoder", "regression", digit=2))

    with pytest.raises(ValueError, match=r"liftlearn\.regression\.encoder in"):
        estimator(folder).fit(pd.DataFrame({"a": [1.0, 2.0]}), [0, 1])


def test_what_is_preferred_is_what_the_parts_have(preferring):
    preferences = {
        "precision": "float64",
        "classification": {
            "encoder": {"columns": "index", "text_length": None, "digits": 3},
            "finetuner": {"max_steps": 1, "n_models": 1, "learning_rate": 0.5},
            "decoder": {"words": ["no", "yes"], "temperature": 2.0},
        },
    }
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]})

    classifier = LIFTClassifier(
        preferring(preferences), finetuner=FineTuner(learning_rate=0.25)
    ).fit(table, [0, 1, 0, 1])

    assert classifier.encoder_.columns_ == "index"
    assert classifier.encoder_.digits_ == 3
    assert classifier.encoder_.text_length_ is None
    assert classifier.finetuner_.n_steps_ == 1
    assert classifier.finetuner_.learning_rate_ == 0.25  # the user's own
    assert classifier.decoder_.answers_.texts == ["no", "yes"]
    assert classifier.decoder_.temperature_ == 2.0
    assert classifier.language_model_.model.dtype == torch.float64


RULED = {
    (RowEncoder, "columns"): "index",
    (RowEncoder, "numbers"): "scaled",
    (RowEncoder, "jitter"): 0.05,
    (RowEncoder, "cell_dropout"): 0.2,
    (FineTuner, "n_epochs"): 20,
    (FineTuner, "max_steps"): 120,
    (FineTuner, "learning_rate"): 1e-3,
    (FineTuner, "n_models"): 1,
    (FineTuner, "validation_fraction"): 0.2,
    (LabelDecoder, "temperature"): 1 + 200 / 34,
}
PARTS = {RowEncoder: "encoder", FineTuner: "finetuner", LabelDecoder: "decoder"}


@pytest.mark.parametrize("ruled", RULED, ids=lambda ruled: ruled[1])
def test_a_model_may_prefer_a_rule_whose_result_is_fitted(preferring, ruled):
    part, name = ruled
    preferences = of(PARTS[part], **{name: "by_table"})
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]})
    given = {"finetuner": FineTuner(max_time=1e-9)}

    with pytest.warns(ConvergenceWarning):
        fitted = LIFTClassifier(preferring(preferences), **given).fit(table, [0, 1] * 2)

    of_fit = getattr(fitted, f"{PARTS[part]}_")
    assert getattr(of_fit, f"{name}_") == pytest.approx(RULED[ruled])
    assert getattr(of_fit, name) == "auto"


def test_a_rule_gives_way_to_the_user_and_is_none_of_the_users_values(preferring):
    folder = preferring(of("encoder", jitter="by_table"))
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]})
    finetuner = FineTuner(max_steps=1, n_models=1)
    classifier = LIFTClassifier(
        folder, encoder=RowEncoder(jitter=0.3), finetuner=finetuner
    )

    assert classifier.fit(table, [0, 1] * 2).encoder_.jitter_ == 0.3
    # Another model's preferences do not come along with a fitted part.
    again = clone(classifier.encoder_).set_params(jitter="auto").fit(table)
    assert again.jitter_ == 0.0


@pytest.mark.parametrize("rule", ["by_table", "small_sample"])
@pytest.mark.parametrize(
    "part",
    [FineTuner, LabelDecoder, NumberDecoder, RowEncoder],
    ids=lambda part: part.__name__,
)
def test_no_parameter_takes_the_name_of_a_rule(part, rule):
    table, target = pd.DataFrame({"a": [1.0, 2.0]}), [1.0, 2.0]
    use = {
        FineTuner: lambda tuner: tuner.finetune(None, None, None),
        RowEncoder: lambda encoder: encoder.fit(table),
    }.get(part, lambda decoder: decoder.fit(target))
    # These take any text, and words a sequence.
    names = part().get_params().keys() - {"question", "task", "template", "words"}
    for name in names - {"checkpoint_dir"}:
        with pytest.raises((TypeError, ValueError), match=f"'{name}' parameter"):
            use(part(**{name: rule}))


@pytest.mark.parametrize("preferences", [None, {}, {"classification": {}}])
def test_a_model_may_prefer_nothing(preferring, preferences):
    lm = LanguageModel.load(preferring(preferences))

    assert lm.model.dtype == torch.float32
    assert not lm.preferences.get("classification")
