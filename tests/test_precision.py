"""A model is kept once, in the precision that suits it."""

import pickle
from importlib.util import find_spec

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from families import made
from numpy.random import RandomState
from tiny import (
    bytes_without_start,
    only,
    saved_gpt2,
    saved_llama,
    sentences,
    write_gguf,
)

import liftlearn
from liftlearn import FineTuner, LanguageModel, LIFTClassifier, LIFTDensity
from liftlearn._language_model import _pretrained
from liftlearn._language_model._trial import _first_layers, find_manner

ANSWERS = ["a", "b", "a long one"]
PROMPTS = ["x is 3. y?", "x is 40, z is 5. y?", "x is 5. y?", "z is 77777. y?"]
# A tiny random model's probabilities are about equal; a bound for rounding of weights.
BOUND = 0.02
BF16 = "torch.bfloat16"
STEPS = FineTuner(max_steps=3, batch_size=4, n_models=1)


needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is an extra"
)


@pytest.fixture(autouse=True)
def computes_bf16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


@pytest.fixture
def all_are_large(monkeypatch):
    """Let models of any size be large, for which weights count and for adapters."""
    monkeypatch.setattr(_pretrained, "_FEW_WEIGHTS", 0)
    monkeypatch.setattr("liftlearn._finetuner._tuner._LARGE", 0)


@pytest.fixture(params=[saved_gpt2, saved_llama], ids=["gpt2", "llama"])
def folder(request, tmp_path):
    return request.param(tmp_path / "model")


@pytest.fixture
def bf16(folder):
    """Return the folder of a model whose file has bf16 weights."""
    in_dtype(folder, torch.bfloat16)
    return folder


def in_dtype(folder, dtype):
    lm = LanguageModel.load(folder, dtype="float32")
    lm.merged().model.to(dtype).save_pretrained(folder)


def lora():
    return peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")


def places(model):
    return {weight.data_ptr() for weight in model.parameters()}


def probabilities(lm, prompts=PROMPTS):
    return np.exp(lm.score(prompts, ANSWERS))


# What a model is kept in


def test_a_small_model_is_read_in_float32(bf16):
    assert LanguageModel.load(bf16).dtype == "float32"


@pytest.mark.usefixtures("all_are_large")
@pytest.mark.parametrize(
    ("own", "capabilities", "kept"),
    [
        (torch.bfloat16, {"avx512_bf16": True}, "bfloat16"),
        (torch.bfloat16, {"amx_bf16": True}, "bfloat16"),
        (torch.bfloat16, {}, "float32"),
        (torch.float16, {"avx512_bf16": True}, "float32"),
        (torch.float32, {"avx512_bf16": True}, "float32"),
    ],
)
def test_a_large_model_stays_as_its_file_has_it_where_that_is_computed(
    folder, monkeypatch, own, capabilities, kept
):
    in_dtype(folder, own)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    lm = LanguageModel.load(folder)

    assert lm.dtype == kept
    assert {str(w.dtype) for w in lm.model.parameters()} == {f"torch.{kept}"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_users_dtype_is_used(folder, dtype):
    lm = LanguageModel.load(folder, dtype=dtype)

    assert lm.dtype == dtype == str(lm.model.dtype).removeprefix("torch.")
    assert dtype in repr(lm)


def test_a_preference_stands_behind_the_user(tmp_path):
    saved_llama(tmp_path, liftlearn={"precision": "bfloat16"})

    assert LanguageModel.load(tmp_path).dtype == "bfloat16"
    assert LanguageModel.load(tmp_path, dtype="float32").dtype == "float32"


@pytest.mark.parametrize("dtype", ["double", "bf16", torch.bfloat16, None, 16])
def test_what_is_no_dtype_is_refused(folder, dtype):
    with pytest.raises(ValueError, match="as dtype, got"):
        LanguageModel.load(folder, dtype=dtype)
    for estimator in (LIFTClassifier(folder, dtype=dtype), LIFTDensity(dtype=dtype)):
        with pytest.raises(ValueError, match="'dtype' parameter"):
            estimator.fit([[0], [1]] * 4, [0, 1] * 4)


def test_a_model_keeps_its_dtype_in_its_folder(folder, tmp_path):
    lm = LanguageModel.load(folder, dtype="bfloat16")
    lm.save(tmp_path / "again")

    again = LanguageModel.load(tmp_path / "again", dtype="bfloat16")

    assert again.model.config.dtype == torch.bfloat16
    assert all(map(torch.equal, again.model.parameters(), lm.model.parameters()))


# Scores


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits_give_almost_the_probabilities_of_float32(folder, dtype):
    exact = probabilities(LanguageModel.load(folder))

    rounded = probabilities(LanguageModel.load(folder, dtype=dtype))

    assert abs(rounded - exact).max() < BOUND
    np.testing.assert_allclose(rounded.sum(1), 1, rtol=1e-6)


def test_rows_alone_are_as_rows_together_but_for_rounding(folder):
    lm = LanguageModel.load(folder, dtype="bfloat16")

    together = probabilities(lm, PROMPTS * 30)[: len(PROMPTS)]

    alone = np.concatenate([probabilities(lm, [prompt]) for prompt in PROMPTS])
    assert abs(together - alone).max() < BOUND


def test_a_model_in_16_bits_is_read_in_the_same_manner(folder):
    exact = find_manner(LanguageModel.load(folder).model)

    assert find_manner(LanguageModel.load(folder, dtype="bfloat16").model) == exact


@pytest.mark.parametrize("family", ["mpt", "recurrent_gemma"])
def test_rounding_hides_no_fault_of_a_family(family, tmp_path):
    made(family, bytes_without_start(), tmp_path)
    exact = find_manner(LanguageModel.load(tmp_path).model)

    found = find_manner(LanguageModel.load(tmp_path, dtype="bfloat16").model)

    assert found == exact
    assert not (exact.reads_trees and exact.batches == "any rows")


def test_a_trial_of_the_first_layers_leaves_a_deep_model_as_it_is(tmp_path):
    saved_llama(tmp_path, num_hidden_layers=6)
    lm = LanguageModel.load(tmp_path, dtype="bfloat16")

    shallow = _first_layers(lm.model)

    assert len(shallow.model.layers) == shallow.config.num_hidden_layers == 2
    assert len(lm.model.model.layers) == lm.model.config.num_hidden_layers == 6
    assert lm.model.dtype == torch.bfloat16
    assert find_manner(lm.model) == find_manner(LanguageModel.load(tmp_path).model)


# Adapters


@pytest.mark.usefixtures("all_are_large")
def test_an_adapter_is_trained_in_float32_over_the_one_copy_of_the_weights(bf16):
    lm = LanguageModel.load(bf16)
    before = [weight.clone() for weight in lm.model.parameters()]
    tuner = FineTuner(max_steps=3, batch_size=4)

    tuned = only(tuner.finetune(lm, sentences(), RandomState(0)))

    assert tuner.mixed_precision_ == "bf16"
    adapter = [w for n, w in tuned.model.named_parameters() if "lora_" in n]
    assert {weight.dtype for weight in adapter} == {torch.float32}
    assert places(lm.model) < places(tuned.model)
    training = lm.trainable_copy(tuner.adapter_, torch.bfloat16)
    assert places(lm.model) < places(training.model)
    assert all(map(torch.equal, before, lm.model.parameters()))
    assert abs(probabilities(tuned) - probabilities(lm)).max() > 0


@pytest.mark.usefixtures("all_are_large")
@pytest.mark.parametrize("adapter", ["auto", None])
def test_what_was_learnt_over_16_bits_comes_back(bf16, tmp_path, adapter):
    X = pd.DataFrame({"a": np.arange(12.0), "b": list("xyz") * 4})
    tuner = FineTuner(max_steps=3, batch_size=4, adapter=adapter, n_models=1)
    classifier = LIFTClassifier(bf16, finetuner=tuner, random_state=0)
    classifier.fit(X, ["no", "yes"] * 6)
    expected = classifier.predict_proba(X)

    classifier.save(tmp_path / "saved")
    loaded = liftlearn.load(tmp_path / "saved")

    assert loaded.language_model_.dtype == "bfloat16"
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X), expected)


def test_a_chosen_dtype_comes_back(folder, tmp_path):
    classifier = LIFTClassifier(
        folder, dtype="bfloat16", finetuner=STEPS, random_state=0
    ).fit([[0.0], [1.0]] * 6, [0, 1] * 6)
    classifier.save(tmp_path / "saved")

    loaded = liftlearn.load(tmp_path / "saved")

    assert loaded.dtype == loaded.language_model_.dtype == "bfloat16"
    assert pickle.loads(pickle.dumps(classifier)).language_model_.dtype == "bfloat16"


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", ["bfloat16", "nf4"])
def test_what_was_learnt_in_float32_is_served_in_fewer_bits(folder, tmp_path, dtype):
    X = [[0.0], [1.0]] * 6
    tuner = FineTuner(max_steps=3, batch_size=4, adapter=lora(), n_models=1)
    classifier = LIFTClassifier(folder, finetuner=tuner, random_state=0)
    classifier.fit(X, [0, 1] * 6).save(tmp_path / "saved")

    loaded = liftlearn.load(tmp_path / "saved", dtype=dtype)

    assert loaded.language_model_.dtype == dtype
    assert loaded.dtype == "auto"
    difference = loaded.predict_proba(X) - classifier.predict_proba(X)
    assert abs(difference).max() < {"bfloat16": BOUND, "nf4": 0.2}[dtype]
    other = LanguageModel.load(folder).merged()
    with torch.no_grad():
        next(other.model.parameters()).add_(0.1)
    other.save(folder)
    with pytest.raises(ValueError, match=r"weights of the model .* are others"):
        liftlearn.load(tmp_path / "saved", dtype=dtype)


def test_a_warm_start_goes_on_in_the_same_dtype(folder):
    X, y = [[0.0], [1.0]] * 6, [0, 1] * 6
    classifier = LIFTClassifier(
        folder, dtype="bfloat16", finetuner=STEPS, random_state=0, warm_start=True
    ).fit(X, y)

    assert classifier.fit(X, y).language_model_.dtype == "bfloat16"
    with pytest.raises(ValueError, match=r"goes on from a model\s+in bfloat16"):
        classifier.set_params(dtype="float32").fit(X, y)


# 8 and 4 bits


by_bits = pytest.mark.parametrize("dtype", ["int8", "nf4"])


@pytest.fixture
def wide(tmp_path):
    """Return the folder of a Llama whose layers are wide enough for blocks of 64."""
    folder = tmp_path / "wide"
    return saved_llama(folder, hidden_size=64, intermediate_size=128)


@needs_bitsandbytes
@by_bits
def test_quantized_weights_give_about_the_probabilities_of_dense_ones(wide, dtype):
    exact = LanguageModel.load(wide)

    lm = LanguageModel.load(wide, dtype=dtype)

    assert lm.dtype == dtype
    assert dtype in repr(lm)
    kinds = {str(weight.dtype) for weight in lm.model.parameters()}
    assert kinds == {{"int8": "torch.int8", "nf4": "torch.uint8"}[dtype], BF16}
    difference = abs(probabilities(lm) - probabilities(exact)).max()
    assert difference < {"int8": 0.05, "nf4": 0.2}[dtype]
    assert find_manner(lm.model) == find_manner(exact.model)
    assert abs(probabilities(lm.merged()) - probabilities(lm)).max() < 0.05
    assert lm.merged().dtype == "bfloat16"


@needs_bitsandbytes
@by_bits
def test_quantized_weights_do_without_a_processors_bf16(wide, monkeypatch, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)

    lm = LanguageModel.load(wide, dtype=dtype)

    assert lm.dtype == dtype
    assert lm.model.dtype == torch.float32
    np.testing.assert_allclose(probabilities(lm).sum(1), 1)


@needs_bitsandbytes
@by_bits
def test_an_adapter_learns_over_quantized_weights_and_comes_back(wide, tmp_path, dtype):
    X = pd.DataFrame({"a": np.arange(12.0), "b": list("xyz") * 4})
    tuner = FineTuner(max_steps=3, batch_size=4, adapter=lora(), n_models=1)
    classifier = LIFTClassifier(wide, dtype=dtype, finetuner=tuner, random_state=0)
    classifier.fit(X, ["no", "yes"] * 6)
    expected = classifier.predict_proba(X)
    lm = classifier.language_model_

    assert places(lm._base.model) < places(lm.model)
    classifier.save(tmp_path / "saved")
    loaded = liftlearn.load(tmp_path / "saved")
    assert loaded.language_model_.dtype == dtype
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X), expected)
    classifier.save(tmp_path / "whole", merged=True)
    whole = liftlearn.load(tmp_path / "whole")
    assert whole.language_model_.adapter is None
    np.testing.assert_allclose(whole.predict_proba(X), expected, atol=0.1)


@needs_bitsandbytes
@by_bits
def test_what_can_not_be_done_with_quantized_weights_is_refused(wide, tmp_path, dtype):
    packed = tmp_path / "a.gguf"
    write_gguf(LanguageModel.load(wide), packed)
    lm = LanguageModel.load(wide, dtype=dtype)
    with pytest.raises(ValueError, match=f"in {dtype} can't be trained, only an adap"):
        lm.trainable_copy()
    with pytest.raises(ValueError, match=r"FSDP.*but its weights are quantized"):
        lm.trainable_copy(lm.default_adapter()).spread(torch.device("cpu"))
    with pytest.raises(ValueError, match=r"holds\s+packed ones"):
        LanguageModel.load(packed, dtype=dtype)


@by_bits
def test_what_quantizes_is_named_where_it_is_missing(wide, monkeypatch, dtype):
    monkeypatch.setattr(_pretrained, "find_spec", lambda name: None)

    with pytest.raises(ImportError, match=r"pip install 'liftlearn\[quantized\]'"):
        LanguageModel.load(wide, dtype=dtype)


@needs_bitsandbytes
def test_a_model_is_shown_rows_with_quantized_weights(wide):
    X, y = [[0.0], [1.0]] * 6, [0, 1] * 6
    tuner = FineTuner(n_epochs=0)
    shown = LIFTClassifier(wide, dtype="nf4", finetuner=tuner, n_shots=2).fit(X, y)

    assert shown.language_model_.dtype == "nf4"
    np.testing.assert_allclose(shown.predict_proba(X).sum(1), 1)
