import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import OrderedDict
from datetime import UTC, date, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

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


def outputs(estimator, X):
    if isinstance(estimator, LIFTClassifier):
        return estimator.predict_proba(X)
    return np.column_stack(estimator.predict(X, return_std=True))


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
    {"columns": "places"},
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


def test_loading_in_another_process_gives_the_same_bits(classifier, tmp_path):
    classifier.save(tmp_path / "saved")
    table = every_kind()
    (tmp_path / "table.pkl").write_bytes(pickle.dumps(table))

    program = (
        "import pickle, sys, numpy, liftlearn; from pathlib import Path\n"
        "folder = Path(sys.argv[1])\n"
        "table = pickle.loads((folder / 'table.pkl').read_bytes())\n"
        "classifier = liftlearn.load(folder / 'saved')\n"
        "numpy.save(folder / 'proba.npy', classifier.predict_proba(table))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)

    np.testing.assert_array_equal(
        np.load(tmp_path / "proba.npy"), classifier.predict_proba(table)
    )


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


def test_whatever_was_learnt_is_saved(classifier, tmp_path):
    estimator = pickle.loads(pickle.dumps(classifier))
    estimator.conformity_ = np.array([0.5, np.nan, np.inf])
    estimator.encoder_._seen = {(1, None): {"n": -0.0}}

    loaded = there_and_back(estimator, tmp_path)

    np.testing.assert_array_equal(loaded.conformity_, estimator.conformity_)
    assert loaded.encoder_._seen == {(1, None): {"n": -0.0}}


def test_requests_for_metadata_come_back(classifier, tmp_path):
    estimator = pickle.loads(pickle.dumps(classifier))
    with config_context(enable_metadata_routing=True):
        estimator.set_fit_request(sample_weight="importance")

    loaded = there_and_back(estimator, tmp_path)

    requests = loaded.get_metadata_routing().fit.requests
    assert requests == {"sample_weight": "importance"}
    again = there_and_back(loaded, tmp_path).get_metadata_routing().fit.requests
    assert again == requests


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


@pytest.mark.parametrize("n_moved", range(6))
def test_a_save_killed_midway_never_loads(classifier, folder, monkeypatch, n_moved):
    class Killed(BaseException):
        pass

    moved, move = [], os.replace

    def move_some(source, target):
        if len(moved) == n_moved:
            raise Killed
        moved.append(target)
        move(source, target)

    monkeypatch.setattr(os, "replace", move_some)

    with pytest.raises(Killed):
        classifier.save(folder)

    with pytest.raises(FileNotFoundError, match="not saved to its end"):
        liftlearn.load(folder)


def test_what_a_killed_save_left_behind_is_cleared_away(classifier, tmp_path):
    left_behind = tmp_path / ".liftlearn-saving-abc"
    left_behind.mkdir()
    (left_behind / "model.safetensors").write_bytes(b"half")

    classifier.save(tmp_path)

    assert not left_behind.exists()
    assert liftlearn.load(tmp_path).n_features_in_ == 16


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
    rewrite(folder, format=3, files="of another form")

    with pytest.raises(ValueError, match=r"format 3; .* up to 2\. Upgrade liftlearn"):
        liftlearn.load(folder)
    with pytest.raises(ValueError, match="Upgrade liftlearn"):
        classifier.save(folder)


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
