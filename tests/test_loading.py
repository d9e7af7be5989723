"""A model's files are read right or refused, with the model's name and what to do."""

import json

import numpy as np
import pytest
import torch
from families import ANSWERS, PROMPTS, made
from safetensors.torch import load_file, save_file
from tiny import bytes_without_start, examples, saved_llama, write_gguf
from transformers import AutoTokenizer, LlamaModel

from liftlearn import FineTuner, LanguageModel, LIFTClassifier
from liftlearn._language_model import AnswerScorer, _trial
from liftlearn._language_model._passes import n_most_tokens
from liftlearn._language_model._trial import find_manner


@pytest.fixture
def folder(tmp_path):
    """Make a Llama of three layers, whose files a test may change."""
    return saved_llama(
        tmp_path / "model",
        bytes_without_start(),
        max_position_embeddings=256,
        intermediate_size=48,
        num_hidden_layers=3,
    )


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(model):
    """Return the message with which a model is refused."""
    with pytest.raises(ValueError, match="Could not load") as error:
        LanguageModel.load(model)
    assert str(model) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 2}, r"weights for 'model.layers.2.*has not"),
        ({"num_hidden_layers": 4}, r"no weights for 'model.layers.3"),
        ({"num_attention_heads": 3}, "not a multiple of the number of attention heads"),
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"num_attention_heads": "two"}, "expected int, got str"),
        ({"hidden_size": 64}, r"asks for .* of shape .*64.*, but the file has"),
        ({"vocab_size": 300}, r"of shape \(300, 32\), but the file has \(257, 32\)"),
        ({"vocab_size": 100}, r"of shape \(100, 32\), but the file has \(257, 32\)"),
        ({"attention_bias": True}, r"no weights for .*\.bias"),
        ({"hidden_act": "nothing"}, "KeyError: 'nothing'"),
        ({"pad_token_id": 999}, "Padding_idx must be within"),
        ({"dtype": "floaty"}, "no attribute 'floaty'"),
        ({"model_type": "nonsense"}, "model type `nonsense`"),
        ({"model_type": "t5"}, "Unrecognized configuration class"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, values, message):
    change_json(folder / "config.json", **values)

    with pytest.raises(ValueError, match=message) as error:
        LanguageModel.load(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "3", "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_json_of_another_shape_is_refused(folder, name, text):
    (folder / name).write_text(text)

    assert refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_missing_is_named_or_what_it_holds(folder, name):
    (folder / name).rename(folder / "elsewhere")
    (folder / name).symlink_to(folder / "nowhere")

    assert refusal(folder)

    (folder / name).unlink()

    assert refusal(folder)


def test_a_link_that_leads_nowhere_is_called_that(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    for model in (tmp_path / "link", str(tmp_path / "link")):
        with pytest.raises(FileNotFoundError, match=r"is a link to '.*nowhere', which"):
            LanguageModel.load(model)


def test_an_empty_folder_is_refused(tmp_path):
    assert "config.json" in refusal(tmp_path)


def test_the_letters_of_a_suffix_may_be_large(llama_folder, tmp_path):
    write_gguf(LanguageModel.load(llama_folder), tmp_path / "M.GGUF")

    assert LanguageModel.load(tmp_path / "M.GGUF").score(["a"], ["b", "c"]).shape
    with pytest.raises(FileNotFoundError, match=r"N\.GGUF' does not exist"):
        LanguageModel.load("N.GGUF")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["model.norm.weight", "lm_head.weight"])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, name, number):
    change_weights(folder, lambda weights: weights[name].flatten()[3:4].fill_(number))

    assert f"'{name}' hold NaN or infinity" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    ["model.layers.0.self_attn.q_proj.bias", "model.layers.7.mlp.up_proj.weight"],
)
def test_weights_that_the_configuration_leaves_out_are_refused(folder, name):
    change_weights(folder, lambda weights: weights.update({name: torch.ones(32)}))

    assert f"weights for '{name}'" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.attn.masked_bias",
        "model.layers.1.attn.bias",
        "score.weight",
        "vision_tower.layers.0.weight",
    ],
)
def test_weights_that_stand_beside_the_text_model_are_left_out(folder, name):
    expected = LanguageModel.load(folder).score(PROMPTS, ANSWERS)
    change_weights(folder, lambda weights: weights.update({name: torch.ones(8)}))

    np.testing.assert_array_equal(
        LanguageModel.load(folder).score(PROMPTS, ANSWERS), expected
    )


def test_a_tokenizer_with_tokens_that_the_model_does_not_know_is_refused(folder):
    path = folder / "tokenizer.json"
    model = json.loads(path.read_text("utf-8"))["model"]
    more = {f"word{i}": 300 + i for i in range(5)}
    change_json(path, model=model | {"vocab": model["vocab"] | more})

    message = refusal(folder)

    assert "writes tokens up to 304, but the model knows those below 257" in message


def test_control_tokens_that_no_text_becomes_may_be_more_than_the_model_knows(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)

    assert LanguageModel.load(folder).score(PROMPTS, ANSWERS).shape == (3, 7)


def test_a_tokenizer_that_writes_nothing_is_refused(folder):
    path = folder / "tokenizer.json"
    model = json.loads(path.read_text("utf-8"))["model"]
    change_json(path, model=model | {"vocab": {}})

    assert "as the tokens []" in refusal(folder)


def test_what_a_tokenizer_raises_becomes_a_clear_error(folder, monkeypatch):
    def fail(*args, **options):
        raise Exception("untagged enum")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)

    assert "Exception: untagged enum" in refusal(folder)


def test_an_interruption_of_loading_stays_one(folder, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", stop)

    with pytest.raises(KeyboardInterrupt):
        LanguageModel.load(folder)


@pytest.fixture(scope="module")
def images_too(tmp_path_factory):
    """Make a model of text and images, whose settings of text are nested."""
    folder = tmp_path_factory.mktemp("gemma3")
    return made("gemma3", bytes_without_start(), folder)


def test_the_length_and_the_vocabulary_are_those_of_the_text_model(images_too):
    lm = LanguageModel.load(images_too)

    scorer = AnswerScorer(lm.model, lm.trie(ANSWERS), constrained=False)

    assert n_most_tokens(lm.model) == 512
    with pytest.raises(ValueError, match="reads at most 512"):
        lm.score(["a" * 600], ANSWERS)
    assert scorer(**examples(lm, scorer, PROMPTS, [0, 0, 0])).shape == (3,)


@pytest.mark.parametrize("constrained", [True, False])
def test_a_model_of_images_too_learns_from_text(images_too, constrained):
    tuner = FineTuner(max_steps=2, n_models=1, constrained=constrained)

    classifier = LIFTClassifier(images_too, finetuner=tuner, random_state=0)
    classifier.fit([[0.0], [1.0]] * 4, ["a", "b"] * 4)

    assert np.isfinite(classifier.predict_proba([[0.0]])).all()


def test_an_adapter_leaves_out_what_reads_no_text(images_too):
    lm = LanguageModel.load(images_too)

    copy = lm.trainable_copy(lm.default_adapter())

    trained = [name for name, w in copy.model.named_parameters() if w.requires_grad]
    assert trained
    assert not any("vision" in name or "projector" in name for name in trained)


def test_a_model_whose_rows_change_each_other_is_read_row_by_row(folder, monkeypatch):
    forward = LlamaModel.forward

    def mixing(self, *args, **options):
        output = forward(self, *args, **options)
        output.last_hidden_state = output.last_hidden_state + (
            output.last_hidden_state - output.last_hidden_state.mean(0, keepdim=True)
        )
        return output

    monkeypatch.setattr(LlamaModel, "forward", mixing)
    lm = LanguageModel.load(folder)

    together = lm.score(PROMPTS, ANSWERS)

    alone = np.vstack([lm.score([prompt], ANSWERS) for prompt in PROMPTS])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_a_window_that_a_trial_is_too_short_for_shows_in_a_mask(tmp_path, monkeypatch):
    made("gpt_neo", bytes_without_start(), tmp_path)
    lm = LanguageModel.load(tmp_path)
    lm.model.config.window_size = 0
    monkeypatch.setattr(_trial, "_MOST_TOKENS", 10)
    monkeypatch.setattr(_trial, "_LEAST_TOKENS", 10)

    manner = find_manner(lm.model)

    assert manner.goes_on
    assert not manner.skips
    assert not manner.reads_trees


def test_sparse_attention_that_a_trial_is_too_short_for_rules_out_padding(
    folder, monkeypatch
):
    lm = LanguageModel.load(folder)
    lm.model.config.index_topk = 100
    monkeypatch.setattr(_trial, "_MOST_PRODUCTS", 0)
    monkeypatch.setattr(_trial, "_MOST_TOKENS", 50)

    assert find_manner(lm.model).batches == "equal lengths"


def test_trying_a_model_changes_no_random_stream_and_no_mode(folder):
    lm = LanguageModel.load(folder)
    lm.model.train()
    state = torch.get_rng_state()

    find_manner(lm.model)

    assert lm.model.training
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_long_rope_rows_are_read_alike_alone_and_with_others(tmp_path):
    made("phi3, LongRoPE", bytes_without_start(), tmp_path)
    lm = LanguageModel.load(tmp_path)
    # Up to 55 tokens the model reads with one set of positions, beyond with another.
    text = " ".join(PROMPTS * 3)
    prompts = [text[:n] for n in (10, 40, 47, 54, 55, 56, 90, 200)]

    together = lm.score(prompts, ANSWERS)

    alone = np.vstack([lm.score([prompt], ANSWERS) for prompt in prompts])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
