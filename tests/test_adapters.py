import copy
import json
import pickle
import random
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import peft
import pytest
import torch
from numpy.random import RandomState
from sklearn.model_selection import GridSearchCV
from tiny import are_equal, only, own_loss, random_model, sentences, weights_of
from torch import nn
from transformers import AutoModelForCausalLM, MambaConfig, MixtralConfig

from liftlearn import (
    FineTuner,
    LanguageModel,
    LIFTClassifier,
)
from liftlearn._language_model import _adapter
from liftlearn._language_model._lora import FastLinear, make_fast
from liftlearn._language_model._pretrained import Source, load_pretrained

ANSWERS = ["a", "b", "a long one"]
PROMPTS = ["x is 3. y?", "x is 40, z is 5. y?"]


@pytest.fixture(params=["gpt2", "llama"])
def lm(request):
    return LanguageModel.load(request.getfixturevalue(f"{request.param}_folder"))


def lora(**options):
    return peft.LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options}
    )


def tuner(adapter, **parameters):
    defaults = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}
    return FineTuner(
        **{**defaults, "mixed_precision": "no", "adapter": adapter, **parameters}
    )


def adapted(lm, adapter=None, **parameters):
    """Return the model with an adapter that was trained for a few steps."""
    adapter = lora() if adapter is None else adapter
    return only(tuner(adapter, **parameters).finetune(lm, sentences(), RandomState(0)))


def scores_of(lm):
    return lm.score(PROMPTS, ANSWERS)


def places(model):
    """Return where in memory the weights are, but for those of adapters."""
    return {
        weight.data_ptr()
        for name, weight in model.named_parameters()
        if "lora_" not in name
    }


# Training


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_an_adapter_lowers_the_loss(lm, precision):
    corpus = sentences(20)
    trained = tuner(
        lora(), n_epochs=15, batch_size=5, learning_rate=0.02, mixed_precision=precision
    )

    tuned = only(trained.finetune(lm, corpus, RandomState(0)))

    assert own_loss(tuned, corpus) < 0.8 * own_loss(lm, corpus)
    assert tuned.model.dtype == torch.float32
    assert not tuned.model.training
    assert not any(weight.requires_grad for weight in tuned.model.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": "all"},
        {"use_dora": True},
        {"modules_to_save": ["norm"], "target_modules": ["q_proj"]},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False},
    ],
    ids=str,
)
def test_the_base_is_shared_and_not_changed(llama, llama_folder, tmp_path, options):
    before, where = weights_of(llama), places(llama.model)

    first, second = (adapted(llama, lora(**options)) for _ in range(2))

    assert are_equal(weights_of(llama), before)
    assert not any(weight.requires_grad for weight in llama.model.parameters())
    assert llama.adapter is None
    assert LanguageModel.load(llama_folder).model is llama.model
    if options.get("bias") is None and "modules_to_save" not in options:
        assert places(first.model) == places(second.model) == where
    assert np.abs(scores_of(first) - scores_of(llama)).max() > 1e-3
    np.testing.assert_array_equal(scores_of(first), scores_of(second))
    first.save(tmp_path)
    again = [LanguageModel.load(tmp_path), pickle.loads(pickle.dumps(first))]
    for other in again:
        np.testing.assert_array_equal(scores_of(other), scores_of(first))
    np.testing.assert_allclose(scores_of(first.merged()), scores_of(first), rtol=1e-4)


def test_only_the_adapter_is_trained_and_it_is_not_on_the_head(lm):
    tuned = lm.trainable_copy(lm.default_adapter(), torch.bfloat16)

    trained = {n: w for n, w in tuned.model.named_parameters() if w.requires_grad}
    frozen = [w for w in tuned.model.parameters() if not w.requires_grad]
    n_linear = {"gpt2": 4, "llama": 7}[lm.model.config.model_type]
    assert len(trained) == 2 * n_linear
    assert all("lora_" in name for name in trained)
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    assert {weight.dtype for weight in frozen} == {torch.bfloat16}
    assert {16} == {min(weight.shape) for weight in trained.values()}
    assert isinstance(tuned.model.get_output_embeddings(), torch.nn.Linear)
    assert type(tuned.model) is type(lm.model)


def test_a_state_space_model_gets_an_adapter_where_it_is_read(llama):
    config = MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1)
    lm = LanguageModel(random_model(config), llama.tokenizer)

    tuned = lm.trainable_copy(lm.default_adapter())

    trained = [n for n, w in tuned.model.named_parameters() if w.requires_grad]
    assert len(trained) == 2
    assert all("in_proj" in name for name in trained)


def test_the_experts_of_a_mixture_get_an_adapter(llama):
    config = MixtralConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
        initializer_range=0.2,
    )
    lm = LanguageModel(random_model(config), llama.tokenizer).scoring_copy()
    before = weights_of(lm)

    tuned = adapted(lm, lm.default_adapter())

    assert are_equal(weights_of(lm), before)
    adapters = [n for n, _ in tuned.model.named_parameters() if "lora_" in n]
    assert any("experts" in name for name in adapters)
    assert np.abs(scores_of(tuned) - scores_of(lm)).max() > 1e-3
    for other in (tuned.merged(), pickle.loads(pickle.dumps(tuned))):
        np.testing.assert_allclose(scores_of(other), scores_of(tuned), rtol=1e-4)


def test_an_adapter_begins_as_the_model_itself(lm):
    tuned = adapted(lm, lora(), n_epochs=0)

    np.testing.assert_array_equal(scores_of(tuned), scores_of(lm))


def test_the_first_loss_is_the_models_own(llama):
    corpus = sentences(12)
    trained = tuner(lora(), n_epochs=1, batch_size=12)
    expected = own_loss(llama, corpus)

    trained.finetune(llama, corpus, RandomState(0))

    assert trained.history_[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_early_stopping_restores_the_best_adapter(llama):
    seen = []

    def metric(lm, rows):
        seen.append(weights_of(lm))
        return [1.0, 3.0, 2.0][len(seen) - 1]

    trained = tuner(lora(), n_epochs=3, early_stopping=True)
    tuned = only(trained.finetune(llama, sentences(), RandomState(0), metric=metric))

    final = weights_of(tuned)
    assert are_equal(final, seen[1])
    assert not are_equal(final, seen[2])


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_checkpointed_activations_give_the_same_gradients(lm, precision):
    def trained(adapter, is_checkpointed):
        parameters = {
            "mixed_precision": precision,
            "gradient_checkpointing": is_checkpointed,
        }
        tuned = tuner(adapter, **parameters)
        tuned = only(tuned.finetune(lm, sentences(), RandomState(0)))
        assert not tuned.model.is_activation_checkpointing
        return weights_of(tuned)

    for adapter in (None, lora(lora_dropout=0.1)):
        plain, checkpointed = (trained(adapter, is_on) for is_on in (False, True))
        assert are_equal(plain, checkpointed)


def test_checkpointed_activations_are_computed_twice(llama):
    counts = []
    for is_on in (False, True):
        model = llama.trainable_copy(lora())
        if is_on:
            model.checkpoint_activations()
        calls = []
        mlp = model.model.model.layers[0].mlp
        mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        model.model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
        counts.append(len(calls))

    assert counts == [1, 2]


def test_a_model_that_cannot_checkpoint_says_so(llama, monkeypatch):
    tuned = llama.trainable_copy()
    monkeypatch.setattr(type(tuned.model), "supports_gradient_checkpointing", False)

    with pytest.raises(ValueError, match=r"gradient_checkpointing=False"):
        tuned.checkpoint_activations()


# What "auto" is


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_fast_product_is_that_of_peft(has_bias, precision):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        slow = nn.Sequential(nn.Linear(6, 5, bias=has_bias), nn.Linear(5, 3))
        peft.inject_adapter_in_model(
            lora(target_modules="all-linear", init_lora_weights=False), slow
        )
        x = torch.randn(2, 4, 6)
    fast = copy.deepcopy(slow)
    make_fast(fast)

    outputs = []
    for model in (slow, fast):
        with torch.autocast("cpu", enabled=precision == "bfloat16"):
            outputs.append(model(x))
        outputs[-1].float().square().sum().backward()

    tolerance = 1e-5 if precision == "float32" else 0.05
    assert type(fast[0]) is type(fast[1]) is FastLinear
    assert outputs[0].dtype == outputs[1].dtype
    torch.testing.assert_close(*outputs, rtol=tolerance, atol=tolerance)
    for one, other in zip(slow.parameters(), fast.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            error = (one.grad - other.grad).norm() / one.grad.norm()
            assert error < tolerance


@pytest.mark.parametrize(
    "options", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}]
)
def test_adapters_with_more_than_a_product_stay_those_of_peft(options):
    model = nn.Sequential(nn.Linear(6, 5))
    peft.inject_adapter_in_model(lora(**options), model)

    make_fast(model)

    assert type(model[0]) is peft.tuners.lora.Linear


def test_large_models_get_an_adapter_and_small_ones_none(llama, monkeypatch):
    small = tuner("auto", learning_rate="auto", max_steps=1)
    small.finetune(llama, sentences(), RandomState(0))
    monkeypatch.setattr("liftlearn._finetuner._tuner._LARGE", 1_000)
    large = tuner("auto", learning_rate="auto", max_steps=1)
    whole = tuner(None, learning_rate="auto", max_steps=1)

    tuned = only(large.finetune(llama, sentences(), RandomState(0)))
    whole.finetune(llama, sentences(), RandomState(0))

    assert (small.adapter_, small.learning_rate_) == (None, 1e-3)
    assert (whole.adapter_, whole.learning_rate_) == (None, 1e-4)
    assert (large.adapter_.r, large.adapter_.lora_alpha) == (16, 32)
    assert large.learning_rate_ == 1e-3
    assert large.adapter == "auto"
    assert tuned.adapter.r == 16


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({"avx512_bf16": True}, "no"), ({"amx_bf16": True}, "bf16"), ({}, "no")],
)
def test_adapters_train_in_bf16_where_the_processor_gains_by_it(
    llama, monkeypatch, capabilities, precision
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with_adapter = tuner(lora(), mixed_precision="auto", max_steps=1)
    without = tuner(None, mixed_precision="auto", max_steps=1)

    with_adapter.finetune(llama, sentences(), RandomState(0))
    without.finetune(llama, sentences(), RandomState(0))

    assert with_adapter.mixed_precision_ == precision
    assert without.mixed_precision_ == "no"


@pytest.mark.parametrize("adapter", ["lora", 8, {"r": 8}, True])
def test_what_is_no_adapter_is_refused(llama, adapter):
    with pytest.raises(ValueError, match="'adapter' parameter"):
        tuner(adapter).finetune(llama, sentences(), RandomState(0))


def test_other_kinds_of_adapter_are_refused(llama):
    with pytest.raises(TypeError, match=r"None or a peft\.LoraConfig, got IA3Config"):
        tuner(peft.IA3Config()).finetune(llama, sentences(), RandomState(0))


@pytest.mark.parametrize(
    "options",
    [{"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]}],
    ids=str,
)
def test_an_adapter_on_the_head_is_refused(llama, options):
    with pytest.raises(ValueError, match="leaves the language model's head as it is"):
        llama.trainable_copy(lora(**options))


def test_an_adapter_on_an_embedding_tied_to_the_head_is_refused(gpt2_folder):
    with (
        pytest.raises(ValueError, match="tied to it"),
        warnings.catch_warnings(action="ignore"),
    ):
        LanguageModel.load(gpt2_folder).trainable_copy(lora(target_modules=["wte"]))


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["nowhere"]},
        {"target_modules": ["q_proj"], "layers_to_transform": 9},
        {"target_modules": ["q_proj"], "modules_to_save": ["layers"]},
    ],
)
def test_what_peft_cannot_make_is_told(llama, options):
    with pytest.raises(ValueError, match="peft cannot give the model this adapter"):
        llama.trainable_copy(lora(**options))


def test_a_start_that_changes_the_base_is_refused(llama):
    with pytest.raises(ValueError, match=r"init_lora_weights='pissa'\) changes the"):
        llama.trainable_copy(lora(init_lora_weights="pissa"))


def test_without_peft_the_way_out_is_said(llama, tmp_path, monkeypatch):
    adapted(llama).save(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("liftlearn._finetuner._tuner._LARGE", 1_000)

    for act in (
        lambda: tuner("auto").finetune(llama, sentences(), RandomState(0)),
        lambda: LanguageModel.load(tmp_path),
    ):
        with pytest.raises(ImportError, match=r"liftlearn\[lora\].*adapter=None"):
            act()
    tuned = only(tuner(None).finetune(llama, sentences(), RandomState(0)))
    assert tuned.adapter is None


# Save, load, pickle


def test_a_saved_adapter_gives_the_same_scores(lm, tmp_path):
    tuned = adapted(lm)

    tuned.save(tmp_path)

    loaded = LanguageModel.load(tmp_path)
    np.testing.assert_array_equal(scores_of(loaded), scores_of(tuned))
    assert places(loaded.model) == places(lm.model)
    assert {path.suffix for path in tmp_path.iterdir()} <= {
        ".json",
        ".safetensors",
        ".md",
    }
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_transformers_and_peft_read_a_saved_adapter(lm, tmp_path):
    tuned = adapted(lm)
    tuned.save(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(lm._origin["model"])
    read_by = {
        "transformers": AutoModelForCausalLM.from_pretrained(tmp_path),
        "peft": peft.PeftModel.from_pretrained(base, tmp_path).base_model.model,
    }

    for model in read_by.values():
        scores = scores_of(LanguageModel(model.eval(), lm.tokenizer))
        np.testing.assert_allclose(scores, scores_of(tuned), rtol=1e-5)


def test_an_adapter_that_transformers_loads_is_merged(lm, tmp_path):
    tuned = adapted(lm)
    tuned.save(tmp_path)

    model, tokenizer = load_pretrained(Source(str(tmp_path)), "cpu", "auto")

    loaded = LanguageModel(model, tokenizer)
    assert loaded.adapter is None
    np.testing.assert_allclose(scores_of(loaded), scores_of(tuned), rtol=1e-4)


def test_a_merged_model_is_a_folder_of_its_own(lm, tmp_path):
    tuned = adapted(lm)

    tuned.merged().save(tmp_path)

    loaded = LanguageModel.load(tmp_path)
    assert loaded.adapter is None
    assert not (tmp_path / "adapter_config.json").exists()
    np.testing.assert_allclose(scores_of(loaded), scores_of(tuned), rtol=1e-4)


def test_the_embedded_models_adapter_is_saved_merged(tmp_path):
    lm = LanguageModel.load()
    tuned = adapted(lm)

    tuned.save(tmp_path)

    loaded = LanguageModel.load(tmp_path)
    assert loaded.preferences == lm.preferences
    assert (loaded.model.dtype, loaded.adapter) == (torch.float64, None)
    np.testing.assert_allclose(scores_of(loaded), scores_of(tuned), rtol=1e-4)


def test_the_embedded_models_adapter_scores_in_float64():
    lm = LanguageModel.load()
    tuned = adapted(lm)
    prompts = [f"x{i} 5 y?" for i in range(9)]

    together = tuned.score(prompts, ["y0", "y1"])

    alone = np.vstack([tuned.score([prompt], ["y0", "y1"]) for prompt in prompts])
    assert {w.dtype for w in tuned.model.parameters()} == {torch.float64}
    assert places(tuned.model) == places(lm.model)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)


def test_preferences_survive_an_adapter(llama, tmp_path):
    preferences = {"classification": {"finetuner": {"n_epochs": 2}}}
    base = llama.trainable_copy()
    base.model.config.liftlearn = preferences
    base.save(tmp_path / "base")
    tuned = adapted(LanguageModel.load(tmp_path / "base"))

    tuned.save(tmp_path / "adapter")

    assert tuned.preferences == preferences
    assert LanguageModel.load(tmp_path / "adapter").preferences == preferences
    assert pickle.loads(pickle.dumps(tuned)).preferences == preferences


def test_a_pickle_leaves_out_weights_that_can_be_loaded_again(lm):
    n_weights = sum(weight.numel() for weight in lm.model.parameters())
    tuned = adapted(lm, lora(r=1, target_modules="all-linear"))

    for kept in (lm, tuned):
        again = pickle.loads(pickle.dumps(kept))

        assert len(pickle.dumps(kept)) < n_weights  # a fourth of its bytes
        assert places(again.model) == places(lm.model)
        np.testing.assert_array_equal(scores_of(again), scores_of(kept))
    np.testing.assert_array_equal(scores_of(copy.deepcopy(tuned)), scores_of(tuned))


def test_a_pickle_carries_weights_that_are_the_models_own(llama):
    whole = only(tuner(None).finetune(llama, sentences(), RandomState(0)))
    over_it = adapted(whole)

    for kept in (whole, over_it):
        np.testing.assert_array_equal(
            scores_of(pickle.loads(pickle.dumps(kept))), scores_of(kept)
        )


def test_another_base_than_that_of_training_is_refused(llama, tmp_path):
    llama.save(tmp_path / "base")
    tuned = adapted(LanguageModel.load(tmp_path / "base"))
    tuned.save(tmp_path / "adapter")
    pickled = pickle.dumps(tuned)
    other = llama.trainable_copy()
    with torch.no_grad():
        other.model.get_input_embeddings().weight *= 2

    other.save(tmp_path / "base")

    for act in (
        lambda: LanguageModel.load(tmp_path / "adapter"),
        lambda: pickle.loads(pickled),
    ):
        with pytest.raises(ValueError, match="are others than when it was saved"):
            act()


def test_a_bases_revision_is_written_as_peft_does(llama, tmp_path):
    tuned = adapted(llama)
    weights = _adapter.adapter_weights(tuned.model)
    saved = _adapter.SavedAdapter("maker/model@v2", tuned.adapter, weights, "abc")

    _adapter.write_adapter(tmp_path, saved)

    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "maker/model"
    assert config["revision"] == "v2"
    read = _adapter.read_adapter(tmp_path)
    assert (read.base, read.fingerprint) == ("maker/model@v2", "abc")
    assert are_equal(read.weights, weights)


def test_a_missing_base_is_named(llama, tmp_path):
    llama.save(tmp_path / "base")
    adapted(LanguageModel.load(tmp_path / "base")).save(tmp_path / "adapter")

    (tmp_path / "base").rename(tmp_path / "elsewhere")

    with pytest.raises(ValueError, match=r"an adapter of the model '.*base'"):
        LanguageModel.load(tmp_path / "adapter")


def test_a_broken_adapter_folder_says_what_is_wrong(llama, tmp_path):
    tuned = adapted(llama)
    for name in ("no weights", "damaged", "other layers", "both"):
        tuned.save(tmp_path / name)
    (tmp_path / "no weights" / "adapter_model.safetensors").unlink()
    adapted(llama, lora(target_modules=["q_proj"])).save(tmp_path / "few")
    (tmp_path / "few" / "adapter_model.safetensors").rename(
        tmp_path / "other layers" / "adapter_model.safetensors"
    )
    (tmp_path / "both" / "config.json").write_text("{}")
    (tmp_path / "damaged" / "adapter_model.safetensors").write_bytes(b"{}")

    for name, message in [
        ("no weights", "Weights in other formats than safetensors are not read"),
        ("damaged", "is damaged"),
        ("other layers", "do not fit the layers of its base"),
        ("both", "holds both"),
    ]:
        with pytest.raises(ValueError, match=message):
            LanguageModel.load(tmp_path / name)


def test_adapter_weights_of_another_shape_do_not_fit(llama, tmp_path):
    for r in (2, 4):
        adapted(llama, lora(r=r)).save(tmp_path / str(r))
    (tmp_path / "2" / "adapter_model.safetensors").replace(
        tmp_path / "4" / "adapter_model.safetensors"
    )

    with pytest.raises(ValueError, match="do not fit the layers of its base"):
        LanguageModel.load(tmp_path / "4")


def test_whole_models_and_adapters_are_not_mixed_in_a_folder(llama, tmp_path):
    tuned = adapted(llama)
    llama.save(tmp_path / "whole")
    tuned.save(tmp_path / "adapter")

    with pytest.raises(FileExistsError, match="already holds a whole model"):
        tuned.save(tmp_path / "whole")
    with pytest.raises(FileExistsError, match="already holds an adapter"):
        llama.save(tmp_path / "adapter")


def test_loading_and_copying_draw_nothing_from_the_random_streams(llama, tmp_path):
    tuned = adapted(llama)
    tuned.save(tmp_path)
    states = torch.get_rng_state(), random.getstate()

    LanguageModel.load(tmp_path)
    tuned.scoring_copy()
    adapted(llama)

    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


# Two stages


def test_a_second_stage_goes_on_with_the_adapter(llama, llama_folder, tmp_path):
    first = adapted(llama)
    first.save(tmp_path / "first")
    loaded = LanguageModel.load(tmp_path / "first")

    second = adapted(loaded, "auto")
    alike = adapted(loaded, "auto", n_epochs=0)

    np.testing.assert_array_equal(scores_of(alike), scores_of(first))
    assert second.adapter.r == first.adapter.r
    assert places(second.model) == places(llama.model)
    assert np.abs(scores_of(second) - scores_of(first)).max() > 1e-3
    second.save(tmp_path / "second")
    again = LanguageModel.load(tmp_path / "second")
    np.testing.assert_array_equal(scores_of(again), scores_of(second))


@pytest.mark.parametrize("adapter", [None, lora(r=2)], ids=["all weights", "another"])
def test_a_second_stage_of_another_kind_merges_the_first(llama, tmp_path, adapter):
    first = adapted(llama)
    before = scores_of(first)

    alike = only(
        tuner(adapter, n_epochs=0).finetune(first, sentences(), RandomState(0))
    )
    second = only(tuner(adapter).finetune(first, sentences(), RandomState(0)))

    np.testing.assert_allclose(scores_of(alike), before, rtol=1e-4)
    np.testing.assert_array_equal(scores_of(first), before)
    assert np.abs(scores_of(second) - before).max() > 1e-3
    second.save(tmp_path)
    loaded = LanguageModel.load(tmp_path)
    np.testing.assert_allclose(scores_of(loaded), scores_of(second), rtol=1e-4)
    again = pickle.loads(pickle.dumps(second))
    np.testing.assert_array_equal(scores_of(again), scores_of(second))


# Estimators


def test_two_threads_fit_adapters_at_once(llama):
    def scores(seed):
        tuned = only(tuner(lora()).finetune(llama, sentences(), RandomState(seed)))
        return scores_of(pickle.loads(pickle.dumps(tuned)))

    alone = [scores(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(scores, (1, 2)))

    np.testing.assert_array_equal(together, alone)


def test_a_search_over_adapters(llama_folder, tmp_path):
    X, y = np.arange(12.0)[:, None], np.array(["no", "yes"] * 6)
    search = GridSearchCV(
        LIFTClassifier(
            llama_folder, finetuner=tuner(None, max_steps=2), random_state=0
        ),
        {"finetuner__adapter": [None, "auto", lora()]},
        cv=2,
        error_score="raise",
    )

    search.fit(X, y)

    assert len(search.cv_results_["params"]) == 3
    classifier = search.estimator.set_params(finetuner__adapter=lora()).fit(X, y)
    assert classifier.finetuner_.adapter_.r == 4
    proba = classifier.predict_proba(X)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X), proba)
    classifier.language_model_.save(tmp_path)
    second = LIFTClassifier(tmp_path, finetuner=tuner("auto", n_epochs=0)).fit(X, y)
    np.testing.assert_array_equal(second.predict_proba(X), proba)
