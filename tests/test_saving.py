import hashlib
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import UTC, date, timedelta, timezone
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import torch
from campaigns.kills import killed_at, states_after_kills, tree
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tiny import outputs

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
from liftlearn._codec import Codec
from liftlearn._files import locked
from liftlearn._saving import _content_digest

# What a law says of a fit, it says of a short one.
SHORT = {"max_steps": 2, "batch_size": 8, "n_models": 1}
BERLIN = ZoneInfo("Europe/Berlin")
many = settings(max_examples=200)


def every_kind(n_rows=24):
    """Return a table with a column of every kind."""
    steps = np.arange(n_rows)
    stamps = pd.date_range("2024-10-26 22:00", periods=n_rows, freq="h", tz=BERLIN)
    table = pd.DataFrame(
        {
            "float": np.sin(steps),
            "narrow": np.cos(steps).astype(np.float32),
            "few": steps % 4,
            "whole": pd.array(steps * 7, "Int64"),
            "flag": steps % 2 == 0,
            "maybe": pd.array([True, None, False] * (n_rows // 3), "boolean"),
            "order": pd.Categorical(
                ["mid", "low", "top"] * (n_rows // 3),
                ["low", "mid", "top"],
                ordered=True,
            ),
            "code": pd.Categorical(steps % 5),
            "word": ["hill", "lake", None] * (n_rows // 3),
            "date": pd.Timestamp("2023-12-30") + pd.to_timedelta(steps * 3, unit="D"),
            "zoned": stamps,
            "day": [date(2024, 1 + i % 12, 3) for i in steps],
            "wait": pd.to_timedelta(steps * 77, unit="min"),
            "exact": [Decimal(int(i)) / 8 for i in steps],
            "text": [f"came by train {i}" for i in steps],
            "nothing": [None] * n_rows,
        }
    )
    table.loc[5, "float"] = np.nan
    return table


def fitted(task="classes", **parameters):
    """Return an estimator that learnt for a moment from a table of every kind."""
    table = every_kind()
    parameters = {"finetuner": FineTuner(**SHORT), "random_state": 0, **parameters}
    if task == "classes":
        labels = np.array(["low", "mid", "top"])[np.arange(len(table)) % 3]
        return LIFTClassifier(**parameters).fit(table, labels)
    return LIFTRegressor(**parameters).fit(table, np.linspace(-3, 9, len(table)))


@pytest.fixture(scope="module")
def classifier():
    return fitted()


@pytest.fixture
def folder(classifier, tmp_path):
    classifier.save(tmp_path / "saved")
    return tmp_path / "saved"


def there_and_back(estimator, folder):
    estimator.save(folder)
    return liftlearn.load(folder)


def files_of(folder):
    """Return the bytes of each file."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rewrite(folder, **changes):
    """Change the content of a state file, and sign it again."""
    file = folder / "liftlearn.json"
    content = {**json.loads(file.read_text()), **changes}
    content.pop("sha256")
    document = {**content, "sha256": _content_digest(content)}
    file.write_text(json.dumps(document))


# There and back


WORDINGS = [
    {},
    {"columns": "names", "numbers": "plain", "jitter": 0.0},
    {"numbers": "row"},
    {"columns": "none"},
]


@pytest.mark.parametrize("task", ["classes", "numbers"])
@pytest.mark.parametrize("wording", WORDINGS)
def test_a_loaded_estimator_is_the_one_that_was_saved(task, wording, tmp_path):
    estimator = fitted(task, encoder=RowEncoder(**wording))

    loaded = there_and_back(estimator, tmp_path)

    table = every_kind()[::-1]
    np.testing.assert_array_equal(outputs(loaded, table), outputs(estimator, table))
    assert loaded.encoder_.transform(table) == estimator.encoder_.transform(table)
    assert repr(loaded.get_params()) == repr(estimator.get_params())
    assert loaded.finetuner_.history_ == estimator.finetuner_.history_
    assert vars(loaded).keys() == vars(estimator).keys()
    assert loaded.n_features_in_ == 16


def test_several_models_come_back_and_fewer_replace_them(tmp_path):
    tuner = FineTuner(**SHORT | {"n_models": 3}, learning_rate=0.05)
    estimator, table = fitted(finetuner=tuner), every_kind()

    loaded = there_and_back(estimator, tmp_path)

    assert len(loaded.language_model_.members) == 3
    np.testing.assert_array_equal(outputs(loaded, table), outputs(estimator, table))
    copy = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(outputs(copy, table), outputs(estimator, table))
    (tmp_path / "member-1" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"member-1/config\.json' is missing"):
        liftlearn.load(tmp_path)

    tuner.set_params(n_models=1)
    single = fitted(finetuner=tuner)
    single.save(tmp_path)

    assert not list(tmp_path.glob("member-*/*"))
    again = liftlearn.load(tmp_path)
    np.testing.assert_array_equal(outputs(again, table), outputs(single, table))


def test_columns_without_string_names_come_back(tmp_path):
    table = every_kind()[["float", "few", "word", "zoned", "text"]]
    table.columns = [3, ("a", 1), pd.Timestamp("2024-01-01", tz=BERLIN), np.pi, None]
    described = RowEncoder(descriptions=dict(zip(table.columns, "abcde", strict=True)))
    classifier = LIFTClassifier(encoder=described, finetuner=FineTuner(**SHORT))
    classifier.fit(table, [0, 1, 2] * 8)

    loaded = there_and_back(classifier, tmp_path)

    assert loaded.encoder.descriptions == described.descriptions
    np.testing.assert_array_equal(
        loaded.predict_proba(table), classifier.predict_proba(table)
    )


IN_ANOTHER_PROCESS = """
import pickle, sys, numpy, liftlearn
from pathlib import Path

folder = Path(sys.argv[1])
classifier, table = pickle.loads((folder / "fitted.pkl").read_bytes())
numpy.save(folder / "unpickled.npy", classifier.predict_proba(table))
classifier = liftlearn.load(folder / "saved")
numpy.save(folder / "loaded.npy", classifier.predict_proba(table))
"""


@pytest.mark.slow
def test_loaded_and_unpickled_in_another_process_it_gives_the_same_probabilities(
    classifier, tmp_path
):
    classifier.save(tmp_path / "saved")
    table = every_kind()
    (tmp_path / "fitted.pkl").write_bytes(pickle.dumps((classifier, table)))

    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, tmp_path], check=True)

    expected = classifier.predict_proba(table)
    np.testing.assert_array_equal(np.load(tmp_path / "loaded.npy"), expected)
    np.testing.assert_allclose(np.load(tmp_path / "unpickled.npy"), expected, rtol=1e-9)


def test_saving_what_was_loaded_writes_the_same_files(folder, tmp_path):
    liftlearn.load(folder).save(tmp_path / "again")

    assert files_of(tmp_path / "again") == files_of(folder)


LABELS = {
    "fixed width": np.array(["a", "longer"]),
    "objects": np.array(["a", "longer"], object),
    "small integers": np.array([-3, 7], np.int8),
    "booleans": np.array([False, True]),
    "halves": np.array([1, 2], np.float16),
    "days": np.array(["2024-02-29", "2025-01-01"], "datetime64[D]"),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_come_back_with_their_type(case, tmp_path):
    labels = np.tile(LABELS[case], 12)
    table = every_kind()[["float"]]
    estimator = LIFTClassifier(finetuner=FineTuner(**SHORT)).fit(table, labels)

    loaded = there_and_back(estimator, tmp_path)

    np.testing.assert_array_equal(loaded.predict(table), estimator.predict(table))
    assert loaded.classes_.dtype == estimator.classes_.dtype
    assert loaded.classes_.tolist() == estimator.classes_.tolist()
    assert loaded.feature_names_in_.tolist() == ["float"]
    assert loaded.feature_names_in_.dtype == object


def test_parameters_come_back_with_their_types(classifier, folder, tmp_path):
    parameters = {
        "model": folder,
        "class_weight": {np.str_("low"): np.float32(0.1), "mid": 2},
        "random_state": np.int64(3),
        "decoder": LabelDecoder(words=("one", "two", "three")),
        "encoder": RowEncoder(jitter=np.float64(0.25), shuffle_columns=np.False_),
    }
    estimator = fitted(**parameters)

    loaded = there_and_back(estimator, tmp_path / "again")

    before, after = estimator.get_params(), loaded.get_params()
    assert repr(after) == repr(before)
    simple = [name for name in before if not hasattr(before[name], "get_params")]
    assert [type(after[name]) for name in simple] == [type(before[k]) for k in simple]
    assert {name: after[name] for name in simple} == {k: before[k] for k in simple}


def test_a_random_state_instance_comes_back_where_it_stood(tmp_path):
    stream = np.random.RandomState(0)
    estimator = fitted(random_state=stream)
    stream.standard_normal()  # of which a second one is kept

    loaded = there_and_back(estimator, tmp_path)

    np.testing.assert_array_equal(
        loaded.random_state.standard_normal(5), stream.standard_normal(5)
    )


@pytest.mark.parametrize(
    "where", ["", "encoder_", "finetuner_", "decoder_", "decoder_.answers_"]
)
@pytest.mark.parametrize("name", ["noted", "noted_", "_noted"])
def test_an_attribute_of_another_version_or_ones_own_is_refused(
    classifier, where, name, tmp_path
):
    estimator = pickle.loads(pickle.dumps(classifier))
    owner = attrgetter(where)(estimator) if where else estimator
    setattr(owner, name, 1)

    with pytest.raises(
        ValueError, match=f"has an attribute '{name}', which is unknown"
    ):
        estimator.save(tmp_path)


def test_what_a_model_prefers_comes_back_with_its_parts(classifier, tmp_path):
    loaded = there_and_back(classifier, tmp_path)

    preferences = classifier.language_model_.preferences["classification"]
    for name in ("encoder_", "finetuner_", "decoder_"):
        part, again = getattr(classifier, name), getattr(loaded, name)
        assert again._preferences == part._preferences == preferences[name[:-1]]


def test_requests_for_metadata_come_back(classifier, tmp_path):
    estimator = pickle.loads(pickle.dumps(classifier))
    with config_context(enable_metadata_routing=True):
        estimator.set_fit_request(sample_weight="importance", X_val=True)

    loaded = there_and_back(estimator, tmp_path)

    requests = loaded.get_metadata_routing().fit.requests
    expected = {"sample_weight": "importance", "X_val": True, "y_val": None}
    assert requests == expected
    again = there_and_back(loaded, tmp_path).get_metadata_routing().fit.requests
    assert again == requests


COMMITTED = Path(__file__).parent / "saved"


def a_few_rows():
    """Return a number, a level, a text and a date."""
    return pd.DataFrame(
        {
            "size": [1.5, 2.5, np.nan, 4.0, 0.5, 3.0] * 4,
            "town": pd.Categorical(["Ulm", "Köln", "Bonn"] * 8),
            "note": [f"no {i} of many" for i in range(24)],
            "since": pd.date_range("2024-02-28", periods=24, freq="40D"),
        }
    )


def test_a_committed_folder_predicts_as_it_did():
    """A change of what is saved asks for a new format, a new folder, new numbers.

    These lines made the folder, and print the numbers::

        from tempfile import TemporaryDirectory
        from test_saving import COMMITTED, a_few_rows
        from tiny import saved_llama
        from liftlearn import FineTuner, LIFTClassifier

        sizes = dict(hidden_size=8, intermediate_size=8, num_attention_heads=1)
        sizes["tie_word_embeddings"] = True
        preferred = {"encoder": {"columns": "by_table", "numbers": "by_table"}}
        preferred = {"precision": "float64", "classification": preferred}
        with TemporaryDirectory() as model:
            saved_llama(model, **sizes, liftlearn=preferred)
            tuner = FineTuner(max_steps=3, learning_rate=0.1, n_models=2)
            estimator = LIFTClassifier(model, finetuner=tuner, random_state=0)
            estimator.fit(a_few_rows(), ["no", "yes", "so"] * 8)
            estimator.model_ = None  # another machine has no such folder
            estimator.set_params(model=None).save(COMMITTED)
        print(estimator.predict_proba(a_few_rows())[:3].round(9).tolist())
    """
    expected = [
        [0.44535695, 0.345616646, 0.209026404],
        [0.440800608, 0.360275893, 0.198923499],
        [0.445119995, 0.348159824, 0.206720181],
    ]

    estimator = liftlearn.load(COMMITTED)

    proba = estimator.predict_proba(a_few_rows())
    np.testing.assert_allclose(proba[:3], expected, rtol=0, atol=1e-8)
    assert estimator.encoder_.columns_ == "index"


# The folder as a model


def test_a_saved_estimator_is_a_model_to_start_from(classifier, folder):
    table, labels = every_kind(), np.array(["yes", "no", "no", "no"] * 6)
    second = LIFTClassifier(folder, finetuner=FineTuner(n_epochs=0), random_state=0)

    untuned = second.fit(table, labels)

    first = classifier.language_model_
    prompts, answers = untuned.encoder_.transform(table), ["y0", "y1"]
    np.testing.assert_array_equal(
        untuned.language_model_.score(prompts, answers), first.score(prompts, answers)
    )
    tuned = clone(second).set_params(finetuner=FineTuner(**SHORT)).fit(table, labels)
    assert not np.allclose(
        tuned.predict_proba(table), untuned.predict_proba(table), rtol=0.01
    )


def test_an_estimator_on_another_model_keeps_its_bits(gpt2_folder, tmp_path):
    estimator = fitted(model=gpt2_folder)

    loaded = there_and_back(estimator, tmp_path)
    again = there_and_back(loaded, tmp_path)  # over the weights it was loaded from

    table = every_kind()
    expected = estimator.predict_proba(table)
    np.testing.assert_array_equal(loaded.predict_proba(table), expected)
    np.testing.assert_array_equal(again.predict_proba(table), expected)
    assert loaded.model == gpt2_folder


def test_an_adapted_estimator_is_saved_without_its_base(gpt2_folder, tmp_path):
    adapter = LoraConfig(r=2, target_modules=["c_attn"])
    finetuner = FineTuner(**SHORT, learning_rate=0.05, adapter=adapter)
    estimator = fitted(model=gpt2_folder, finetuner=finetuner)

    loaded = there_and_back(estimator, tmp_path / "first")

    table = every_kind()
    expected = estimator.predict_proba(table)
    np.testing.assert_array_equal(loaded.predict_proba(table), expected)
    assert (tmp_path / "first" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "first" / "model.safetensors").exists()
    assert loaded.finetuner_.adapter_.to_dict() == adapter.to_dict()
    further = clone(loaded).set_params(
        model=tmp_path / "first", finetuner=FineTuner(n_epochs=0)
    )
    further.fit(table, np.array(["low", "mid", "top"])[np.arange(len(table)) % 3])
    np.testing.assert_array_equal(further.predict_proba(table), expected)


def test_an_adapter_never_replaces_its_own_base(gpt2_folder, tmp_path):
    base = shutil.copytree(gpt2_folder, tmp_path / "base")
    adapter = LoraConfig(r=2, target_modules=["c_attn"])
    estimator = fitted(model=base, finetuner=FineTuner(**SHORT, adapter=adapter))

    with pytest.raises(FileExistsError, match="base' holds"):
        estimator.save(base)

    assert files_of(base) == files_of(gpt2_folder)


def test_an_adapter_never_replaces_an_estimator_that_is_its_base(gpt2_folder, tmp_path):
    fitted(model=gpt2_folder).save(tmp_path)
    before = files_of(tmp_path)
    adapter = LoraConfig(r=2, target_modules=["c_attn"])
    second = fitted(model=tmp_path, finetuner=FineTuner(**SHORT, adapter=adapter))

    with pytest.raises(FileExistsError, match=r"base model .* merged=True"):
        second.save(tmp_path)

    assert files_of(tmp_path) == before
    second.save(tmp_path, merged=True)
    np.testing.assert_allclose(
        liftlearn.load(tmp_path).predict_proba(every_kind()),
        second.predict_proba(every_kind()),
        atol=1e-4,
    )


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "cpu", None])
def test_what_was_saved_on_another_device_runs_on_this_one(
    device, classifier, tmp_path
):
    estimator = pickle.loads(pickle.dumps(classifier)).set_params(device=device)

    loaded = there_and_back(estimator, tmp_path)

    assert loaded.device == device
    available = "cuda" if torch.cuda.is_available() and device != "cpu" else "cpu"
    assert loaded.language_model_.model.device.type == available
    named = liftlearn.load(tmp_path, device="cpu")
    assert named.language_model_.model.device.type == "cpu"


# What cannot be saved


class Shouting:
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return [f"{row}?" for row in range(len(X))]


class Lazy(FineTuner):
    pass


class OwnClassifier(LIFTClassifier):
    pass


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"encoder": Shouting()}, r"LIFTClassifier\.encoder is a .*Shouting"),
        ({"finetuner": Lazy(**SHORT)}, r"LIFTClassifier\.finetuner is a .*Lazy"),
        (
            {"decoder": LabelDecoder(words=OrderedDict(low="a", mid="b", top="c"))},
            r"LIFTClassifier\.decoder\.words is a collections\.OrderedDict",
        ),
        (
            {"random_state": np.random.RandomState(np.random.PCG64(0))},
            r"LIFTClassifier\.random_state is a .*RandomState",
        ),
    ],
)
def test_a_part_of_ones_own_is_named_and_nothing_is_written(
    parameters, message, tmp_path
):
    estimator = fitted(**parameters)

    with pytest.raises(TypeError, match=f"{message}.* own part cannot be saved"):
        estimator.save(tmp_path / "new")

    assert not (tmp_path / "new").exists()


def test_a_class_of_ones_own_cannot_be_saved(classifier, tmp_path):
    estimator = pickle.loads(pickle.dumps(classifier))
    estimator.__class__ = OwnClassifier

    with pytest.raises(TypeError, match=r"OwnClassifier is a .*OwnClassifier"):
        estimator.save(tmp_path)


@pytest.mark.parametrize("estimator", [LIFTClassifier(), LIFTRegressor()])
def test_an_estimator_that_is_not_fitted_cannot_be_saved(estimator, tmp_path):
    with pytest.raises(NotFittedError):
        estimator.save(tmp_path)


# Where to save


def test_saving_again_leaves_nothing_of_the_first_save(classifier, folder):
    stale = folder / "model-00001-of-00002.safetensors"
    stale.write_bytes(b"old")
    state = json.loads((folder / "liftlearn.json").read_text())
    rewrite(folder, files={**state["files"], stale.name: "0"})
    (folder / "README.md").write_text("a card of one's own")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    other = fitted("numbers")

    loaded = there_and_back(other, folder)

    table = every_kind()
    np.testing.assert_array_equal(outputs(loaded, table), outputs(other, table))
    assert not stale.exists()
    assert (folder / "README.md").exists()
    assert (folder / ".gitattributes").exists()


def test_a_folder_of_something_else_is_left_alone(classifier, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(FileExistsError, match=r"holds 'thesis.tex'"):
        classifier.save(tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        classifier.save(tmp_path / "thesis.tex")

    assert files_of(tmp_path) == {"thesis.tex": b"mine"}


def test_a_save_that_fails_keeps_the_earlier_one(
    classifier, folder, monkeypatch, tmp_path
):
    def fail(lm, folder):
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    before = files_of(folder)
    monkeypatch.setattr(LanguageModel, "save", fail)

    with pytest.raises(OSError, match="disk full"):
        classifier.save(folder)
    with pytest.raises(OSError, match="disk full"):
        classifier.save(tmp_path / "new")

    assert files_of(folder) == before
    with pytest.raises(FileNotFoundError, match="not a saved estimator"):
        liftlearn.load(tmp_path / "new")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # may deadlock
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_save_killed_anywhere_leaves_the_old_or_the_new(llama_folder, tmp_path):
    table = every_kind()[["float", "word"]]
    tuner = FineTuner(**SHORT | {"n_models": 2})
    old = LIFTClassifier(llama_folder, finetuner=tuner).fit(table, [0, 1, 1] * 8)
    new = clone(old).set_params(finetuner__n_models=1).fit(table, [0, 1, 1] * 8)

    states, n_operations = states_after_kills(old, new, tmp_path)

    assert n_operations > 25
    found = [copy for _, copy in states]
    assert found == sorted(found)
    assert {*found} == {0, 1}
    for loaded, copy in states:
        members = getattr(loaded.language_model_, "members", [None])
        assert len(members) == 2 - copy


def test_what_a_killed_save_left_behind_is_cleared_away(classifier, tmp_path):
    left_behind = tmp_path / ".liftlearn-saving-abc"
    left_behind.mkdir()
    (left_behind / "model.safetensors").write_bytes(b"half")

    classifier.save(tmp_path)

    assert not left_behind.exists()
    assert liftlearn.load(tmp_path).n_features_in_ == 16


def test_an_interrupted_exchange_ends_at_the_next_load(classifier, folder, monkeypatch):
    def interrupt(folder, names, replaced):
        raise KeyboardInterrupt

    monkeypatch.setattr("liftlearn._saving.bring_in", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted("numbers").save(folder)
    monkeypatch.undo()

    assert isinstance(liftlearn.load(folder), LIFTRegressor)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 9, b"[" * 9999])
def test_a_damaged_copy_can_be_saved_over(damage, classifier, folder):
    (folder / "liftlearn.json").write_bytes(damage)
    (folder / "member-1").mkdir()
    (folder / "member-1" / "config.json").write_bytes(damage)

    loaded = there_and_back(classifier, folder)

    assert loaded.n_features_in_ == 16
    (folder / "liftlearn.json").write_bytes(damage)
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds 'thesis\.tex'"):
        classifier.save(folder)


def test_savers_of_one_folder_wait_for_each_other(classifier, tmp_path):
    table = every_kind()
    others = [pickle.loads(pickle.dumps(classifier)) for _ in range(3)]
    for i, other in enumerate(others):
        other.decoder_.temperature_ = 1.0 + i
    expected = [other.predict_proba(table) for other in others]

    with ThreadPoolExecutor(6) as threads:
        saves = [threads.submit(m.save, tmp_path / "new") for m in others * 2]
        for save in saves:
            save.result()

    proba = liftlearn.load(tmp_path / "new").predict_proba(table)
    assert any(np.array_equal(proba, one) for one in expected)
    assert not [*(tmp_path / "new").glob(".*")]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_dead_savers_lock_ends_with_it(classifier, folder):
    def die():
        with locked(folder, exclusive=True):
            os._exit(9)

    assert killed_at(10**6, die)

    assert there_and_back(classifier, folder).n_features_in_ == 16


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_was_forked_amid_a_load_holds_no_lock(tmp_path):
    here, there = os.pipe()
    with locked(tmp_path, exclusive=False):
        process = os.fork()
        if process == 0:
            os.read(here, 1)  # a worker that lives on
            os._exit(0)

    with ThreadPoolExecutor(1) as threads:
        saving = threads.submit(locked(tmp_path, exclusive=True).__enter__)
        is_free = bool(wait([saving], timeout=10).done)
        os.write(there, b"x")
    os.waitpid(process, 0)

    assert is_free


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(28, "No space left on device"), OSError),
        (PermissionError(13, "Permission denied"), PermissionError),
        (SafetensorError("I/O error: No space left on device (os error 28)"), OSError),
        (Exception("No such file or directory (os error 2)"), FileNotFoundError),
        (KeyError("a fault of ours"), KeyError),
    ],
)
def test_what_fails_a_save_names_the_folder_and_what_is_whole(
    raised, expected, classifier, folder, monkeypatch
):
    def fail(lm, folder):
        raise raised

    before = files_of(folder)
    monkeypatch.setattr(LanguageModel, "save", fail)

    with pytest.raises(expected) as caught:
        classifier.save(folder)

    assert files_of(folder) == before
    if expected is not KeyError:
        assert f"Cannot write {str(folder)!r}" in str(caught.value)
        assert "What was saved there before is whole." in str(caught.value)
        assert caught.value.errno in (2, 13, 28)


def test_the_files_of_an_adapter_are_the_same_each_time(gpt2_folder, tmp_path):
    tuner = FineTuner(**SHORT, adapter="auto")
    model = fitted(model=gpt2_folder, finetuner=tuner)
    for name in "abcdefgh":
        model.save(tmp_path / name)
    first, *others = [files_of(tmp_path / name) for name in "abcdefgh"]
    assert all(other == first for other in others)


def test_saved_files_have_the_mode_of_other_files(classifier, tmp_path):
    (tmp_path / "other").touch()
    (tmp_path / "below").mkdir()

    classifier.save(tmp_path / "new")

    modes = {path.stat().st_mode for path in (tmp_path / "new").iterdir()}
    assert modes == {(tmp_path / "other").stat().st_mode}
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "below").stat().st_mode


def test_a_link_to_a_folder_is_saved_to(classifier, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")

    classifier.save(tmp_path / "link")
    classifier.save(tmp_path / "link")

    assert (tmp_path / "link").is_symlink()
    assert liftlearn.load(tmp_path / "real").n_features_in_ == 16
    with pytest.raises(FileExistsError, match="a link to nothing"):
        classifier.save(tmp_path / "nowhere")


def test_a_folder_in_place_of_a_file_stops_a_save_before_anything_is_lost(
    classifier, folder
):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").mkdir()
    before = sorted(path.name for path in folder.iterdir())

    with pytest.raises(FileExistsError, match=r"tokenizer\.json' stands in the way"):
        classifier.save(folder)

    assert sorted(path.name for path in folder.iterdir()) == before


# What cannot be loaded


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere' does not exist"):
        liftlearn.load(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="file' is a file"):
        liftlearn.load(tmp_path / "file")


def test_a_language_model_is_told_from_an_estimator(gpt2_folder):
    with pytest.raises(FileNotFoundError, match=r"LIFTClassifier\(model=folder\)"):
        liftlearn.load(gpt2_folder)


def test_a_newer_format_asks_for_an_upgrade(classifier, folder):
    rewrite(folder, format=8, files="of another form")

    with pytest.raises(ValueError, match=r"format 8; .* format 7\. Upgrade liftlearn"):
        liftlearn.load(folder)
    with pytest.raises(ValueError, match="Upgrade liftlearn"):
        classifier.save(folder)


def test_an_earlier_format_is_not_read_but_saved_over(classifier, folder):
    rewrite(folder, format=4)

    with pytest.raises(ValueError, match=r"earlier version.* format 4; .* again"):
        liftlearn.load(folder)

    classifier.save(folder)
    assert liftlearn.load(folder).classes_.tolist() == classifier.classes_.tolist()


FILES = ["config.json", "model.safetensors", "tokenizer.json", "liftlearn.json"]


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(name, damage, folder):
    content = bytearray((folder / name).read_bytes())
    if damage == "truncated":
        content = content[:-9]
    else:
        content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)

    with pytest.raises(ValueError, match=f"{name}' is not as it was saved"):
        liftlearn.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"format": 1}', "\xff"])
def test_a_state_file_of_another_kind_is_not_read(text, folder):
    (folder / "liftlearn.json").write_text(text, encoding="latin-1")

    with pytest.raises(ValueError, match=r"liftlearn.json' is not as it was saved"):
        liftlearn.load(folder)


def test_a_missing_file_is_named(folder):
    (folder / "tokenizer.json").unlink()

    with pytest.raises(FileNotFoundError, match=r"tokenizer.json' is missing"):
        liftlearn.load(folder)


def test_a_file_that_would_change_the_model_is_refused(folder):
    (folder / "README.md").write_text("harmless")
    liftlearn.load(folder)
    (folder / "adapter_config.json").write_text("{}")

    with pytest.raises(ValueError, match=r"adapter_config.json' does not belong"):
        liftlearn.load(folder)


def test_no_file_outside_the_folder_is_touched(classifier, folder, tmp_path):
    (tmp_path / "precious").write_text("mine")

    for name in ["../precious", str(tmp_path / "precious")]:
        rewrite(folder, files={name: "0"})
        with pytest.raises(ValueError, match="outside its folder"):
            classifier.save(folder)

    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize(
    "written",
    [
        {"type": "os.system", "value": "true"},
        {"type": "LanguageModel", "value": {}},
        {"type": "LIFTClassifier", "value": 3},
        {"type": "array", "value": ["<f8", [2], [1.0]]},
        {"value": 3},
    ],
)
def test_only_liftlearns_own_types_are_read(written, folder):
    rewrite(folder, estimator=written)

    with pytest.raises(ValueError, match=r"a value that this version .* cannot read"):
        liftlearn.load(folder)


# What is not trusted: folders that were made up, and signed


def sign(folder, content):
    """Write a state with the digests of the files as they are now."""
    for name in content["files"]:
        if (folder / name).is_file():
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            content["files"][name] = digest
    rewrite(folder, **content)


def state_of(folder):
    return json.loads((folder / "liftlearn.json").read_text())


def attribute(folder, path, value):
    """Set, or leave out, an attribute of a saved estimator or of its parts."""
    content = state_of(folder)
    at = content["estimator"]["value"]
    *way, last = path.split(".")
    for name in way:
        at = at[int(name)] if isinstance(at, list) else at[name]
        at = at.get("value", at) if isinstance(at, dict) else at
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    sign(folder, content)


def key(folder, name, **values):
    """Set keys of a JSON file."""
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **values}))
    sign(folder, state_of(folder))


@pytest.fixture(scope="module")
def made_up(tmp_path_factory, llama_folder):
    """Return saved folders to change copies of."""
    top = tmp_path_factory.mktemp("made up")
    wording = RowEncoder(columns="index", numbers="scaled")
    fitted(model=llama_folder, encoder=wording).save(top / "classes")
    fitted("numbers", model=llama_folder, encoder=wording).save(top / "numbers")
    tuner = FineTuner(**SHORT, adapter=LoraConfig(r=2, target_modules=["q_proj"]))
    fitted(model=llama_folder, finetuner=tuner).save(top / "adapter")
    return top


@pytest.fixture
def copied(made_up, tmp_path):
    def copied(name="classes"):
        return shutil.copytree(made_up / name, tmp_path / name)

    return copied


@contextmanager
def little_memory_and_time():
    """Let nothing allocate more than two GiB, or take long."""
    resource = pytest.importorskip("resource")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)


def array(dtype, shape, cells):
    return {"type": "array", "value": [dtype, shape, cells]}


def adapter(**parameters):
    pairs = {"peft_type": "LORA", "r": 2, **parameters}
    return {"type": "LoraConfig", "value": {"type": "dict", "value": [*pairs.items()]}}


MADE_UP = [
    ("decoder_.classes_", array("<U250000000", [3], ["a", "b", "c"])),
    ("decoder_.classes_", array("(1000000000,)f8", [1], [1])),
    ("decoder_.classes_", array("<U3", [2], ["a", "b"])),
    ("decoder_.classes_", ["low", "mid", "top"]),
    ("decoder_.classes_", ...),
    ("classes_", array("<U3", [3], ["low", "mid", "top"])),
    ("encoder_", ...),
    ("encoder_", {"type": "FineTuner", "value": {}}),
    ("encoder", {"type": "FineTuner", "value": {}}),
    ("encoder_._writers", []),
    ("encoder_._writers.0", {"type": "tuple", "value": []}),
    ("encoder_._writers.0", {"type": "text", "value": {"length": 3}}),
    ("encoder_._writers.0", {"type": "text", "value": {"length": "3", "dropout": 0.0}}),
    ("encoder_._ways", ...),
    ("encoder_._columns", []),
    ("encoder_.n_features_in_", 3),
    ("encoder_.digits_", 10**9),
    ("encoder_.question_", 3),
    ("encoder_.columns_", "floaty"),
    ("encoder_.transform", "hidden"),
    ("n_features_in_", "16"),
    ("predict_proba", "hidden"),
    ("__class__", "hidden"),
    ("decoder_.n_wordings_", 10**9),
    ("decoder_.temperature_", {"type": "float", "value": "nan"}),
    ("decoder_.temperature_", "warm"),
    ("decoder_.class_prior_", array("<f8", [2], [0.5, 0.5])),
    ("decoder_.answers_.texts", ["y0", "y0", "y1"]),
    ("decoder_.answers_.texts", ["y0", "y1"]),
    ("decoder_.answers_", {"type": "NumberAnswers", "value": {}}),
    ("device", "floaty"),
    ("model", 3),
    (
        "random_state",
        {"type": "RandomState", "value": [array("<u4", [624], [0] * 624), 10**6, 0, 0]},
    ),
    ("finetuner.adapter", adapter(target_modules="(a+)+$")),
    ("finetuner.adapter", adapter(modules_to_save=["(a+)+$"])),
    ("finetuner.adapter", adapter(megatron_config={"type": "tuple", "value": [1]})),
    ("conformity_scores_", array("<f8", [2], [5.0, -1.0])),
    ("conformity_scores_", array("<f8", [3], [0.5])),
    ("extra_", {"type": "tuple", "value": "text"}),
    ("extra_", {"type": "dict", "value": {"a": 1}, "more": 1}),
]


@pytest.mark.parametrize(("path", "value"), MADE_UP)
def test_a_state_that_was_made_up_is_refused_at_loading(path, value, copied):
    folder = copied()
    attribute(folder, path, value)

    with little_memory_and_time(), pytest.raises(ValueError, match=r"."):
        liftlearn.load(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("decoder_.answers_.low", "low"),
        ("decoder_.answers_.low", 10**9),
        ("decoder_.answers_._scale", None),
        ("decoder_.answers_.numbers", array("<f8", [2], [1.0, 2.0])),
        ("encoder_._writers.0.scale.knots", array("<f8", [2], [1.0, 0.0])),
        ("encoder_._writers.0.digits", 10**9),
    ],
)
def test_a_regressor_that_was_made_up_is_refused_at_loading(path, value, copied):
    folder = copied("numbers")
    attribute(folder, path, value)

    with pytest.raises(ValueError, match="cannot read"):
        liftlearn.load(folder)


@pytest.mark.parametrize(
    "content",
    [
        {"files": None},
        {"files": []},
        {"files": {"config.json": 3}},
        {"files": {".git/config": "0"}},
        {"files": {"member-1/../../precious": "0"}},
        {"files": {"liftlearn.json": "0"}},
        {"files": {"setup.py": "0"}},
        {"requests": 3},
        {"requests": {"fit": 3}},
        {"requests": {"nothing": {"a": "b"}}},
        {"estimator": 3},
        {"estimator": {"type": "Scale", "value": {}}},
        {"estimator": {"type": ["a"], "value": {}}},
        {"format": "2"},
        {"format": -1},
        {"format": True},
        {"more": 1},
    ],
    ids=str,
)
def test_a_state_with_other_contents_is_refused(content, copied):
    folder = copied()
    rewrite(folder, **content)

    with pytest.raises(ValueError, match=r"liftlearn\.json'"):
        liftlearn.load(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"estimator": ' + "[" * 99_999 + "]" * 99_999 + "}", "recursion"),
        ('{"format": 2, "format": 2}', "a key occurs twice"),
        ('{"format": NaN}', "NaN is no number"),
        ('{"format": 2,}', "Expecting property name"),
    ],
)
def test_what_is_no_plain_json_is_refused(text, reason, folder):
    digest = hashlib.sha256(text.encode()).hexdigest()
    signed = text.removesuffix("}") + f', "sha256": "{digest}"' + "}"
    (folder / "liftlearn.json").write_text(signed)

    with pytest.raises(ValueError, match=reason):
        liftlearn.load(folder)


def test_values_that_nest_too_deeply_are_refused(copied):
    folder = copied()
    deep = '{"type": "tuple", "value": [' * 800 + "]}" * 800
    content = (folder / "liftlearn.json").read_text().partition(', "sha256"')[0] + "}"
    content = content.replace('"verbose": 0', f'"verbose": {deep}')
    digest = hashlib.sha256(content.encode()).hexdigest()
    (folder / "liftlearn.json").write_text(
        content.removesuffix("}") + f', "sha256": "{digest}"' + "}"
    )

    with pytest.raises(ValueError, match=r"cannot (be )?read"):
        liftlearn.load(folder)


def test_the_size_of_a_state_is_bounded(copied, monkeypatch):
    folder = copied()
    many = [{"type": "NaT", "value": None}] * 99
    attribute(folder, "random_state", many)
    with pytest.raises(ValueError, match="random_state"):
        liftlearn.load(folder)
    monkeypatch.setattr("liftlearn._codec._MOST_OBJECTS", 99)
    with pytest.raises(ValueError, match="more than 99 objects"):
        liftlearn.load(folder)
    monkeypatch.setattr("liftlearn._saving._MOST_STATE", 999)

    with pytest.raises(ValueError, match=r"At most|at most"):
        liftlearn.load(folder)


def test_what_would_not_load_is_not_saved(classifier, folder, monkeypatch):
    before = tree(folder)
    broken = pickle.loads(pickle.dumps(classifier))
    broken.decoder_.temperature_ = "warm"

    with pytest.raises(ValueError, match=r"temperature.* Fit it again"):
        broken.save(folder)
    monkeypatch.setattr("liftlearn._saving._MOST_STATE", 999)
    with pytest.raises(ValueError, match="999 at most"):
        classifier.save(folder)

    assert tree(folder) == before


def as_pipe(path):
    os.mkfifo(path)


def as_folder(path):
    path.mkdir()


def as_device(path):
    path.symlink_to("/dev/zero")


def as_loop(path):
    path.symlink_to(path.name)


def as_socket(path):
    with socket.socket(socket.AF_UNIX) as made, change_folder(path.parent):
        made.bind(path.name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes as files")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "make",
    [as_pipe, as_folder, as_device, as_loop, as_socket],
    ids=lambda make: make.__name__,
)
def test_what_is_no_file_is_not_opened(name, make, copied):
    folder = copied()
    (folder / name).unlink()
    make(folder / name)

    with little_memory_and_time(), pytest.raises((ValueError, FileNotFoundError)):
        liftlearn.load(folder)
    with little_memory_and_time(), suppress(ValueError, OSError):
        LanguageModel.load(folder)


@contextmanager
def change_folder(folder):
    """Work in a folder: a socket's path must be short."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_links_stay_inside_or_in_the_hubs_cache(copied, tmp_path):
    folder = copied()
    expected = outputs(liftlearn.load(folder), every_kind())
    snapshot = tmp_path / "hub" / "snapshots" / "abc"
    shutil.copytree(folder, snapshot)
    (tmp_path / "hub" / "blobs").mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(tmp_path / "hub" / "blobs" / path.name)
        path.symlink_to(Path("../../blobs") / path.name)

    loaded = liftlearn.load(snapshot)

    np.testing.assert_array_equal(outputs(loaded, every_kind()), expected)
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(ValueError, match="a link to a file outside its folder"):
        liftlearn.load(folder)
    (folder / "model.safetensors").unlink()
    (tmp_path / "outside.safetensors").rename(folder / "model.safetensors")
    (folder / "liftlearn.json").rename(tmp_path / "outside.json")
    (folder / "liftlearn.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(ValueError, match="a link to a file outside its folder"):
        liftlearn.load(folder)


def test_saving_removes_nothing_through_a_link(classifier, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("config.json", "model.safetensors"):
        (outside / name).write_text("mine")
    state = state_of(folder)
    (folder / "member-1").symlink_to(outside)
    (folder / "merges.txt").symlink_to(outside / "config.json")
    rewrite(folder, files={**state["files"], "member-1/config.json": "0"})
    decided = folder / ".liftlearn-saved"
    decided.symlink_to(outside)

    classifier.save(folder)

    assert files_of(outside) == dict.fromkeys(files_of(outside), b"mine")
    assert len(files_of(outside)) == 2
    assert not (folder / "member-1").exists()
    assert liftlearn.load(folder).n_features_in_ == 16


@pytest.mark.parametrize("name", [".git/config", "../outside", "notes.txt"])
def test_a_state_never_says_what_is_removed(name, classifier, folder):
    (folder / ".git").mkdir()
    (folder / name).write_text("mine")
    rewrite(folder, files={**state_of(folder)["files"], name: "0"})

    with pytest.raises(ValueError, match=r"lies outside its folder, or that no save"):
        classifier.save(folder)

    assert (folder / name).read_text() == "mine"


CONFIGS = [
    {"_attn_implementation": "kernels-community/flash-attn"},
    {"attn_implementation": {"": "owner/kernel:function"}},
    {"_experts_implementation": "owner/kernel"},
    {"text_config": {"attn_implementation": "flash_attention_2"}},
    {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    {"num_hidden_layers": 200_000},
    {"num_hidden_layers": 10**9},
    {"vocab_size": 10**12},
    {"intermediate_size": 10**12},
    {"num_attention_heads": 10**9},
    {"head_dim": 10**9},
    {"num_labels": 10**9},
    {"max_position_embeddings": 10**15},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_configuration_gets_no_more_than_its_weights(config, copied):
    folder = copied()
    key(folder, "config.json", **config)

    for load in (liftlearn.load, LanguageModel.load):
        with (
            little_memory_and_time(),
            pytest.raises(
                ValueError, match=r"Could not load.* Its (configuration|weights)"
            ),
        ):
            load(folder)


def test_a_model_of_more_parts_than_weights_is_not_built(copied, monkeypatch):
    folder = copied()
    monkeypatch.setattr("liftlearn._language_model._untrusted._CALLS", 100)
    liftlearn.load(folder)
    monkeypatch.setattr("liftlearn._language_model._untrusted._CALLS_A_TENSOR", 1)
    key(folder, "config.json", num_hidden_layers=20)

    with pytest.raises(ValueError, match="many more parts than its files hold"):
        liftlearn.load(folder)


def test_a_tokenizer_of_too_many_tokens_is_not_made(copied):
    folder = copied()
    added = {f"{300 + i}": {"content": f"\u00e9{i}"} for i in range(70_000)}
    key(folder, "tokenizer_config.json", added_tokens_decoder=added)

    with pytest.raises(ValueError, match="adds 70000 tokens"):
        liftlearn.load(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/outside.safetensors", 3])
def test_an_index_names_files_of_its_folder_alone(name, copied, tmp_path):
    folder = copied()
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    state = state_of(folder)
    state["files"]["model.safetensors.index.json"] = ""
    del state["files"]["model.safetensors"]
    sign(folder, state)

    for load in (liftlearn.load, LanguageModel.load):
        with pytest.raises(ValueError, match="is no safetensors file of its folder"):
            load(folder)


# Adapters, whose base is elsewhere


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("A connection was opened.")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"base_model_name_or_path": "owner/model"}, "only local files are read here"),
        ({"base_model_name_or_path": "http://host/x"}, "could not be loaded"),
        ({"base_model_name_or_path": None}, "its base model is None"),
        (
            {"base_model_name_or_path": "/nowhere"},
            r"liftlearn\.load\(folder, base=\.\.\.",
        ),
        ({"revision": 3}, "Expected the configuration of a LoRA adapter"),
        ({"peft_type": "IA3"}, "no adapter of the kind LORA"),
        ({"r": 10**9}, "its rank is"),
        ({"lora_alpha": "2"}, "its lora_alpha is"),
        ({"monteclora_config": "b"}, "it asks for monteclora_config"),
        ({"target_modules": 3}, "its target_modules is 3"),
        ({"target_modules": [3]}, "its target_modules is"),
        ({"target_modules": ["lm_head"]}, "do not fit"),
        ({"rank_pattern": {"(([a-z_.0-9])+)+$X": 3}}, "might take for ever"),
        ({"modules_to_save": ["(([a-z_.0-9])+)+$X"]}, "might take for ever"),
        ({"layer_replication": [[0, 200_000]]}, "asks for layer_replication"),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "megatron"),
    ],
    ids=str,
)
def test_an_adapter_that_was_made_up_is_refused(parameters, message, copied):
    folder = copied("adapter")
    key(folder, "adapter_config.json", **parameters)

    with little_memory_and_time(), pytest.raises(ValueError, match=message):
        liftlearn.load(folder)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "name", ["target_modules", "exclude_modules", "layers_pattern"]
)
def test_a_pattern_in_a_file_is_never_matched(name, copied):
    folder = copied("adapter")
    expected = outputs(liftlearn.load(folder), every_kind())
    layers = {"layers_to_transform": [0]} if name == "layers_pattern" else {}
    key(folder, "adapter_config.json", **{name: "(([a-z_.0-9])+)+$X", **layers})

    with little_memory_and_time():
        loaded = liftlearn.load(folder)

    np.testing.assert_array_equal(outputs(loaded, every_kind()), expected)


def test_an_adapter_of_itself_is_refused(copied):
    folder = copied("adapter")
    key(folder, "adapter_config.json", base_model_name_or_path=str(folder))

    with pytest.raises(ValueError, match="an adapter itself"):
        liftlearn.load(folder)


def test_a_base_that_has_moved_is_named(llama_folder, tmp_path):
    base = shutil.copytree(llama_folder, tmp_path / "base")
    pattern = LoraConfig(r=2, target_modules=r".*\.q_proj")
    tuner = FineTuner(**SHORT, learning_rate=0.05, adapter=pattern)
    estimator, table = fitted(model=base, finetuner=tuner), every_kind()
    estimator.save(tmp_path / "adapter")
    estimator.save(tmp_path / "merged", merged=True)
    pickled, expected = pickle.dumps(estimator), estimator.predict_proba(table)
    base.rename(tmp_path / "elsewhere")
    changed = shutil.copytree(tmp_path / "elsewhere", tmp_path / "changed")
    weights = load_file(changed / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, changed / "model.safetensors", {"format": "pt"})

    loaded = liftlearn.load(tmp_path / "adapter", base=tmp_path / "elsewhere")

    np.testing.assert_array_equal(loaded.predict_proba(table), expected)
    loaded.save(tmp_path / "again")
    again = liftlearn.load(tmp_path / "again")
    np.testing.assert_array_equal(again.predict_proba(table), expected)
    merged = liftlearn.load(tmp_path / "merged")
    np.testing.assert_allclose(merged.predict_proba(table), expected, atol=1e-4)
    assert merged.language_model_.adapter is None
    with pytest.raises(ValueError, match=r"base'.*liftlearn\.load\(folder, base="):
        liftlearn.load(tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"base'.*save\(folder, merged=True\)"):
        pickle.loads(pickled)
    with pytest.raises(ValueError, match="are others than when it was saved"):
        liftlearn.load(tmp_path / "adapter", base=changed)
    with pytest.raises(ValueError, match="is for a folder with an adapter"):
        liftlearn.load(tmp_path / "merged", base=base)


def test_several_adapters_are_merged_each(llama_folder, tmp_path):
    adapter = LoraConfig(r=2, target_modules=["q_proj"])
    tuner = FineTuner(**SHORT | {"n_models": 2}, adapter=adapter)
    estimator, table = fitted(model=llama_folder, finetuner=tuner), every_kind()

    estimator.save(tmp_path, merged=True)

    loaded = liftlearn.load(tmp_path)
    assert [m.adapter for m in loaded.language_model_.members] == [None, None]
    np.testing.assert_allclose(
        loaded.predict_proba(table), estimator.predict_proba(table), atol=1e-4
    )


@pytest.mark.usefixtures("no_network")
def test_a_downloaded_base_is_found_without_a_connection(
    made_up, copied, llama_folder, tmp_path, monkeypatch
):
    cache = tmp_path / "hub"
    snapshot = cache / "models--owner--model" / "snapshots" / "abc"
    shutil.copytree(llama_folder, snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    folder = copied("adapter")
    key(folder, "adapter_config.json", base_model_name_or_path="owner/model")

    loaded = liftlearn.load(folder)

    expected = outputs(liftlearn.load(made_up / "adapter"), every_kind())
    np.testing.assert_array_equal(outputs(loaded, every_kind()), expected)


# Any value


def same(a, b):
    """Return whether two values are equal and of the same types throughout."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, np.ndarray):
        return (
            a.dtype == b.dtype and a.shape == b.shape and same(a.tolist(), b.tolist())
        )
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and same(a.item(), b.item())
    if isinstance(a, pd.Timestamp | pd.Timedelta) and a.unit != b.unit:
        return False
    return repr(a) == repr(b)  # nan is nan, and -0.0 is not 0.0


def stamp(count, unit, zone):
    moment = pd.Timestamp(np.datetime64(count, unit))
    return moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)


zones = st.sampled_from(
    [None, UTC, BERLIN, ZoneInfo("Asia/Kathmandu"), timezone(timedelta(hours=-3), "X")]
)
units = st.sampled_from(["s", "ms", "us", "ns"])
moments = st.integers(-(10**9), 2 * 10**9)
dtypes = ["?", "<i1", "<u8", ">i4", "<f2", "<f4", "<f8", "<U3", "<M8[D]", "<m8[ns]"]


@st.composite
def arrays(draw):
    """Return an array of any of the types that can be saved."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(st.sampled_from([(), (0,), (3,), (2, 0), (2, 3)]))
    seed = draw(st.integers(0, 99))
    numbers = np.random.RandomState(seed).randint(-100, 100, shape)
    array = np.asarray(numbers).astype(dtype)
    if array.size and dtype.kind in "fmM":
        array[(0,) * array.ndim] = "NaT" if dtype.kind in "mM" else np.nan
    return array


keys = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.datetimes(timezones=zones),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.builds(stamp, moments, units, zones),
    st.builds(lambda n, unit: pd.Timedelta(np.timedelta64(n, unit)), moments, units),
    st.sampled_from([pd.NaT, pd.NA, UTC, BERLIN, Path("a") / "b"]),
    st.integers(-128, 127).map(np.int8),
    st.floats(width=32).map(np.float32),
    st.floats().map(np.float64),
    st.booleans().map(np.bool_),
    st.text(max_size=3).map(np.str_),
    moments.map(lambda n: np.datetime64(n, "s")),
)
values = st.recursive(
    keys | arrays(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(st.integers(0, 3)),
        st.lists(inner, max_size=3).map(
            lambda cells: np.fromiter(cells, object, len(cells))
        ),
    ),
    max_leaves=6,
)


@many
@given(value=values)
@example(value=np.str_("a\0"))
def test_any_value_comes_back_as_it_was(value):
    codec = Codec({})

    text = json.dumps(codec.encode(value, "value"), allow_nan=False)

    assert same(codec.decode(json.loads(text)), value)


@pytest.mark.parametrize(
    "value",
    [
        print,
        len,
        int,
        object(),
        frozenset({1}),
        b"bytes",
        1j,
        np.complex64(1),
        np.longdouble(1),
        np.zeros(2, np.longdouble),
        np.zeros(2, "i4, f4"),
        np.ma.zeros(2),
        pd.Series([1]),
        torch.zeros(1),
    ],
)
def test_any_other_value_is_refused_by_its_name_and_type(value):
    with pytest.raises(
        TypeError, match=rf"part\[0\]\[1\] is a .*{type(value).__name__}"
    ):
        Codec({}).encode([(2, value)], "part")


def test_the_type_of_an_array_that_is_refused_is_named():
    with pytest.raises(TypeError, match=r"numpy\.ndarray of complex128"):
        Codec({}).encode(np.zeros(2, complex), "part")


def test_the_grid_of_a_regressor_comes_back(tmp_path):
    decoder = NumberDecoder(grid="scaled", spacing="quantile", low=-np.float32(8.5))
    regressor = fitted("numbers", decoder=decoder)

    loaded = there_and_back(regressor, tmp_path)

    before, after = regressor.decoder_.answers_, loaded.decoder_.answers_
    np.testing.assert_array_equal(after.numbers, before.numbers)
    assert (after.low, after.high, after.texts) == (-8.5, before.high, before.texts)
    assert type(loaded.decoder.low) is np.float32
