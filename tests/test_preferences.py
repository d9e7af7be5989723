"""What a model prefers stands in its config.json, and is checked when it is loaded."""

import json
import shutil

import pandas as pd
import pytest
import torch

from liftlearn import FineTuner, LanguageModel, LIFTClassifier, LIFTRegressor


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
        "one of 'encoder', 'finetuner', 'decoder' at liftlearn.classification in.*codr",
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


@pytest.mark.parametrize("preferences", [None, {}, {"classification": {}}])
def test_a_model_may_prefer_nothing(preferring, preferences):
    lm = LanguageModel.load(preferring(preferences))

    assert lm.model.dtype == torch.float32
    assert not lm.preferences.get("classification")
