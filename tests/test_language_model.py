import copy
import json
import logging
import pickle
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import torch
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError
from tiny import examples, write_gguf
from tokenizers import normalizers, processors
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    T5Config,
    ViTConfig,
)
from transformers.utils import logging as transformers_logging

from liftlearn import LanguageModel
from liftlearn._language_model import AnswerScorer

PROMPTS = ["age is 41, job is nurse. Retired?", "Retired?", "x0 53 x1 c7 y?"]
ANSWER_SETS = {
    "prefixes": ["1", "12", "123"],
    "one token": ["a", "b", "c"],
    "one answer": ["yes"],
    "several levels": ["no", "not yet", "yes", "yes, last year", "yes, long ago", "y"],
    "grid": [f"{i / 10:.1f}" for i in range(8, 13)],
    "with control tokens": ["</s>", "<|endoftext|>", "<s></s>", "<"],
}


@pytest.fixture(params=["embedded", "gpt2", "llama"])
def lm(request):
    if request.param == "embedded":
        return LanguageModel.load()
    return LanguageModel.load(request.getfixturevalue(f"{request.param}_folder"))


def tolerance(lm):
    """Return the relative rounding error that the model's precision allows."""
    return 1e-10 if lm.model.dtype == torch.float64 else 2e-5


def token_paths(lm, answers):
    """Return the tokens of each answer with the end mark."""
    written = lm.tokenizer(
        [f" {answer}" for answer in answers],
        add_special_tokens=False,
        split_special_tokens=True,
    )["input_ids"]
    return [[*ids, lm.tokenizer.eos_token_id] for ids in written]


def plain_score(lm, prompt, path, rival_paths):
    """Return the sum over an answer's tokens of the log-softmax among their rivals.

    The text is read at once, with no pads and no cache. Without rival paths each token
    competes with the whole vocabulary.
    """
    ids = lm.tokenizer(prompt, split_special_tokens=True)["input_ids"]
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids + path])).logits[0].double()
    total = 0.0
    for depth, token in enumerate(path):
        follows = logits[len(ids) + depth - 1]
        rivals = {p[depth] for p in rival_paths if p[:depth] == path[:depth]}
        among = follows[sorted(rivals)] if rivals else follows
        total += (follows[token] - among.logsumexp(0)).item()
    return total


def expected_scores(lm, prompts, answers):
    paths = token_paths(lm, answers)
    return [[plain_score(lm, p, path, paths) for path in paths] for p in prompts]


# Scores


@pytest.mark.parametrize("answers", ANSWER_SETS.values(), ids=ANSWER_SETS)
def test_a_score_is_the_sum_over_the_answers_tokens(lm, answers):
    expected = expected_scores(lm, PROMPTS, answers)

    for batch_size in (1, 2, 64, None):
        scores = lm.score(PROMPTS, answers, batch_size=batch_size)

        assert scores.shape == (len(PROMPTS), len(answers))
        assert scores.dtype == np.float64
        np.testing.assert_allclose(scores, expected, rtol=tolerance(lm), atol=1e-12)


@pytest.mark.parametrize("answers", ANSWER_SETS.values(), ids=ANSWER_SETS)
def test_probabilities_of_the_answers_sum_to_1(lm, answers):
    scores = lm.score(PROMPTS, answers)

    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1.0, rtol=1e-6)


def test_a_single_answer_is_certain(lm):
    scores = lm.score(PROMPTS, ["yes"])

    assert scores.tolist() == [[0.0]] * 3


@pytest.mark.parametrize("name", sorted(ANSWER_SETS.keys() - {"one answer"}))
def test_the_training_loss_is_the_prediction_score(lm, name):
    answers = ANSWER_SETS[name]
    scorer = AnswerScorer(lm.model, lm.trie(answers))
    prompts = PROMPTS * len(answers)
    own = np.repeat(np.arange(len(answers)), len(PROMPTS)).tolist()

    with torch.no_grad():
        trained = scorer(**examples(lm, scorer, prompts, own)).numpy()

    used = lm.score(prompts, answers)[np.arange(len(own)), own]
    np.testing.assert_allclose(trained, used, rtol=tolerance(lm), atol=1e-12)


@pytest.mark.parametrize("answers", ANSWER_SETS.values(), ids=ANSWER_SETS)
def test_unconstrained_the_score_is_the_whole_texts_log_likelihood(lm, answers):
    scorer = AnswerScorer(lm.model, lm.trie(answers), constrained=False)
    prompts = PROMPTS * len(answers)
    own = np.repeat(np.arange(len(answers)), len(PROMPTS)).tolist()

    with torch.no_grad():
        scores = scorer(**examples(lm, scorer, prompts, own)).numpy()

    paths = token_paths(lm, answers)
    expected = [
        plain_score(lm, prompt, paths[answer], [])
        for prompt, answer in zip(prompts, own, strict=True)
    ]
    np.testing.assert_allclose(scores, expected, rtol=tolerance(lm))


def test_an_empty_prompt_is_scored(lm):
    alone = lm.score([""], ["1", "12", "2"])
    among = lm.score(["", *PROMPTS], ["1", "12", "2"])

    np.testing.assert_allclose(np.exp(alone).sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(alone[0], among[0], rtol=1e-4)


@pytest.mark.parametrize(
    "shortage",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
    ids=["processor", "gpu"],
)
def test_a_pass_that_is_too_large_is_read_in_halves(lm, monkeypatch, shortage):
    prompts = [f"x is {i}. y?" for i in range(9)]
    expected = lm.score(prompts, ["a", "b"])
    score_all, sizes = AnswerScorer.score_all, []

    def short_of_memory(self, input_ids, attention_mask, start=None):
        sizes.append(len(input_ids))
        if len(input_ids) > n_most:
            raise shortage
        return score_all(self, input_ids, attention_mask, start)

    monkeypatch.setattr(AnswerScorer, "score_all", short_of_memory)

    n_most = 3
    np.testing.assert_allclose(lm.score(prompts, ["a", "b"]), expected, atol=1e-5)
    assert sizes == [9, 4, 2, 2, 5, 2, 3]
    n_most = 0
    with pytest.raises(MemoryError, match=r"a single row of \d+ tokens"):
        lm.score(prompts[:2], ["a", "b"])


def test_another_error_in_a_pass_is_no_shortage_of_memory(lm, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("The size of tensor a must match")

    monkeypatch.setattr(AnswerScorer, "score_all", broken)

    with pytest.raises(RuntimeError, match="must match"):
        lm.score(["x is 1. y?"] * 2, ["a", "b"])


def test_neighbours_order_and_batch_size_do_not_change_the_embedded_models_scores():
    lm = LanguageModel.load()
    random = np.random.RandomState(0)
    prompts = [" ".join(["x0 5", "job is"] * random.randint(1, 9)) for _ in range(12)]
    answers = ["1", "12", "123", "y1", "y7", "no"]
    order = random.permutation(12)

    together = lm.score(prompts, answers)

    alone = np.vstack([lm.score([prompt], answers) for prompt in prompts])
    shuffled = lm.score([prompts[i] for i in order], answers)
    in_fives = lm.score(prompts, answers, batch_size=5)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)
    np.testing.assert_allclose(together[order], shuffled, rtol=0, atol=1e-12)
    np.testing.assert_allclose(together, in_fives, rtol=0, atol=1e-12)


def test_scoring_leaves_the_models_mode_as_it_was(gpt2_folder):
    tuned = LanguageModel.load(gpt2_folder).trainable_copy()

    with_dropout_off = [tuned.score(PROMPTS, ["a", "b"]) for _ in range(2)]

    assert tuned.model.training
    np.testing.assert_array_equal(*with_dropout_off)


# What is computed


def tokens_read(lm, prompts, answers):
    """Return how many tokens enter the model while it scores, pads included."""
    counts = []
    hook = lm.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: counts.append(inputs[0].numel())
    )
    with hook:
        lm.score(prompts, answers)
    return sum(counts)


def test_a_prompt_is_read_once_however_many_answers_there_are(lm):
    n_tokens = sum(map(len, lm.prompt_tokens(["Retired?"] * 5)))
    few, many = ["a", "b"], list("abcdefghijklmnop")

    counts = [tokens_read(lm, ["Retired?"] * 5, answers) for answers in (few, many)]

    # What all answers begin with is read once: a space, where that is a token.
    n_inner = len(lm.trie(few).lead) * 5
    assert counts == [n_tokens + n_inner] * 2


def test_longer_answers_cost_their_own_tokens_only(llama):
    answers = ANSWER_SETS["several levels"]
    prompts = ["Retired?", "Employed"]
    llama.score(prompts, answers)  # the first time it is tried how they can be read

    one, two = (tokens_read(llama, prompts[:n], answers) for n in (1, 2))

    nodes = llama.trie(answers).nodes
    beginnings = {node[:depth] for node in nodes for depth in range(1, len(node) + 1)}
    n_prompt = len(llama.prompt_tokens(prompts)[1])
    assert two - one == n_prompt + len(beginnings)


class Widths(TorchFunctionMode):
    """Notes the last dimension of each tensor that an operation gives."""

    def __init__(self):
        self.seen = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim:
            self.seen.add(result.shape[-1])
        return result


def test_only_the_head_columns_that_can_follow_are_computed(llama):
    answers = ["1", "12", "123"]
    n_words = llama.model.config.vocab_size
    with Widths() as whole:
        llama.model(torch.tensor([[1, 2]]))
    assert n_words in whole.seen

    with Widths() as widths:
        llama.score(PROMPTS, answers)

    n_columns = len({"2", "3", "end"})  # "1" is certain
    assert n_words not in widths.seen
    assert n_columns in widths.seen


# Text and tokens


@pytest.mark.parametrize("text", ["</s>", "<s>", "<pad>", "<|endoftext|>"])
def test_text_cannot_write_control_tokens(lm, text):
    control = set(lm.tokenizer.all_special_ids)
    start = lm.tokenizer("")["input_ids"]

    (tokens,) = lm.prompt_tokens([f"job is {text}{text}. Retired?"])
    path = lm.trie([text, "other"]).whole[0]

    assert tokens[: len(start)] == start
    assert not control & set(tokens[len(start) :])
    assert path[-1] == lm.tokenizer.eos_token_id
    assert not control & set(path[:-1])


class NotesSplitting:
    """Notes whether each call of a tokenizer splits control tokens in the text."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.eos_token_id = tokenizer.eos_token_id
        self.splits = []

    def __call__(self, text, **options):
        self.splits.append(options.get("split_special_tokens", False))
        return self.tokenizer(text, **options)


def test_no_call_of_the_tokenizer_lets_other_threads_write_control_tokens(llama):
    # transformers switches the whole tokenizer, which all threads share, at each call.
    tokenizer = NotesSplitting(llama.tokenizer)
    lm = LanguageModel(llama.model, tokenizer)

    lm.prompt_tokens(["</s>"])
    lm.trie(["</s>", "other"])

    assert tokenizer.splits == [True] * len(tokenizer.splits)
    assert len(tokenizer.splits) >= 2


def test_a_row_too_long_for_the_model_is_named(lm):
    limit = lm.model.config.max_position_embeddings
    n_tokens = len(lm.tokenizer("~" * limit)["input_ids"])
    n_tokens += lm.trie(["1", "12"]).depth

    with pytest.raises(ValueError, match=f"Row 1 is {n_tokens} tokens.*{limit}"):
        lm.score(["Retired?", "~" * limit], ["1", "12"])


def test_a_row_that_just_fits_is_scored(gpt2_folder):
    lm = LanguageModel.load(gpt2_folder)
    limit, depth = lm.model.config.max_position_embeddings, lm.trie(["1", "12"]).depth

    scores = lm.score(["~" * (limit - depth)], ["1", "12"])

    np.testing.assert_allclose(np.exp(scores).sum(), 1.0, rtol=1e-6)
    with pytest.raises(ValueError, match="Row 0"):
        lm.score(["~" * (limit - depth + 1)], ["1", "12"])


def test_answers_of_the_same_tokens_are_refused(llama_folder):
    lm = LanguageModel.load(llama_folder)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()

    with pytest.raises(ValueError, match=r"\['Yes', 'yes'\] have the same tokens"):
        LanguageModel(lm.model, tokenizer).score(["Retired?"], ["no", "Yes", "yes"])


def test_a_tokenizer_without_an_end_mark_is_refused(llama_folder):
    lm = LanguageModel.load(llama_folder)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.eos_token = None

    with pytest.raises(ValueError, match="no end-of-sequence token"):
        LanguageModel(lm.model, tokenizer).score(["Retired?"], ["no", "yes"])


def test_an_end_mark_after_each_text_is_not_read_before_the_answer(llama_folder):
    lm = LanguageModel.load(llama_folder)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    start, end = ("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[start, end]
    )

    tokens = LanguageModel(lm.model, tokenizer).prompt_tokens(PROMPTS)

    assert tokenizer("")["input_ids"] == [start[1], end[1]]
    assert tokens == lm.prompt_tokens(PROMPTS)


# Load and save


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*nowhere' does not exist"):
        LanguageModel.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere' does not exist"):
        LanguageModel.load("./nowhere")


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("no model")

    with pytest.raises(ValueError, match=r"notes\.txt' is another file"):
        LanguageModel.load(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="Could not load a causal language model"):
        LanguageModel.load(tmp_path)


def changed_folder(source, target, **files):
    """Copy a folder with some files written anew, or left out where they are None."""
    shutil.copytree(source, target)
    for name, content in files.items():
        path = next(target.glob(f"{name}.*"))
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    return target


@pytest.mark.parametrize(
    "files",
    [
        {"model": b"cut short"},
        {"model": None},
        {"config": b"{"},
        {"tokenizer": b"{"},
        {"tokenizer": b'{"model": 1}'},
    ],
    ids=str,
)
def test_damaged_files_are_said_to_be_unreadable(llama_folder, tmp_path, files):
    folder = changed_folder(llama_folder, tmp_path / "damaged", **files)

    with pytest.raises(ValueError, match=r"Could not load.*damaged.*Expected a folder"):
        LanguageModel.load(folder)


def test_missing_weights_are_not_made_up(llama_folder, tmp_path):
    weights = safetensors.torch.load_file(llama_folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    content = safetensors.torch.save(weights, {"format": "pt"})
    folder = changed_folder(llama_folder, tmp_path / "partial", model=content)

    with pytest.raises(ValueError, match=r"no weights for .*layers\.0\.mlp\.up_proj"):
        LanguageModel.load(folder)


def test_weights_in_a_pickle_are_not_loaded(llama_folder, tmp_path):
    folder = changed_folder(llama_folder, tmp_path / "pickled", model=None)
    weights = safetensors.torch.load_file(llama_folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")

    with pytest.raises(ValueError, match=r"no file named model\.safetensors"):
        LanguageModel.load(folder)


def test_code_in_a_folder_is_not_run(llama_folder, tmp_path):
    config = json.loads((llama_folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    content = json.dumps(config).encode()
    folder = changed_folder(llama_folder, tmp_path / "coded", config=content)
    (folder / "own.py").write_text("raise SystemExit('executed')")

    with pytest.raises(ValueError, match="custom code"):
        LanguageModel.load(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BertConfig, "reads text in both directions"),
        (ViTConfig, r"Unrecognized configuration class.*Expected a folder"),
        (T5Config, r"Unrecognized configuration class.*Expected a folder"),
    ],
)
def test_other_kinds_of_models_are_refused(llama_folder, tmp_path, config, message):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = config(**sizes, vocab_size=300, num_layers=1)
    kind = AutoModelForMaskedLM if config.model_type == "bert" else AutoModel
    kind.from_config(config).save_pretrained(tmp_path)
    LanguageModel.load(llama_folder).tokenizer.save_pretrained(tmp_path)

    with pytest.raises(ValueError, match=message):
        LanguageModel.load(tmp_path)


def test_logits_made_in_an_unknown_way_are_asked_of_the_model_itself(
    llama_folder, monkeypatch, tmp_path
):
    forward = LlamaForCausalLM.forward

    def squared(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.logits = output.logits**2
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", squared)

    lm = LanguageModel.load(shutil.copytree(llama_folder, tmp_path / "squared"))

    (tokens,) = lm.prompt_tokens(["x0"])
    ends = lm.trie(["a", "b"])
    text = torch.tensor([[*tokens, *ends.lead]])
    own = lm.model(input_ids=text).logits[0, -1, ends.columns]
    expected = own.log_softmax(-1)[None].detach().numpy()
    scores = lm.score(["x0"], ["a", "b"])
    np.testing.assert_allclose(np.sort(scores), np.sort(expected), rtol=1e-5)


def test_a_model_that_says_something_else_each_time_is_refused(
    llama_folder, monkeypatch, tmp_path
):
    forward = LlamaForCausalLM.forward

    def noisy(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.logits = output.logits + torch.rand_like(output.logits)
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", noisy)

    with pytest.raises(ValueError, match="something else of the same text each time"):
        LanguageModel.load(shutil.copytree(llama_folder, tmp_path / "noisy"))


class Response:
    """As much of a refused request as the hub's errors show."""

    status_code, headers, url, request = 403, {}, "https://hub", None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GatedRepoError, "Its owners ask for consent"),
        (RevisionNotFoundError, "no branch, tag or commit 'v2'"),
    ],
)
def test_what_the_hub_refuses_is_explained(monkeypatch, error, message):
    asked = []

    def refuse(name, *args, **options):
        asked.append((name, options["revision"]))
        raise OSError("The hub says no.") from error("no", response=Response())

    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", lambda *_, **__: ({}, {}))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)

    with pytest.raises(ValueError, match=rf"'owner/model@v2'.* says no\. .*{message}"):
        LanguageModel.load("owner/model@v2")
    assert asked == [("owner/model", "v2")]


def test_a_model_on_the_hub_asks_for_no_code_either(monkeypatch):
    def config(name, **options):
        return {"model_type": "llama", "_attn_implementation": "owner/kernel"}, {}

    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", config)

    with pytest.raises(ValueError, match="may be code from a hub"):
        LanguageModel.load("owner/model")


def test_a_gguf_file_is_read_with_dense_weights(llama, tmp_path):
    write_gguf(llama, tmp_path / "tiny.gguf")

    loaded = LanguageModel.load(tmp_path / "tiny.gguf")

    answers = ANSWER_SETS["several levels"]
    scores = loaded.score(PROMPTS, answers)
    # The file does not say that prompts begin with <s>.
    expected = LanguageModel(llama.model, loaded.tokenizer).score(PROMPTS, answers)
    assert loaded.model.dtype == torch.float32
    assert 0 < np.abs(scores - expected).max() < 0.1  # eight bits are not all
    loaded.save(tmp_path / "folder")
    again = LanguageModel.load(tmp_path / "folder")
    np.testing.assert_array_equal(again.score(PROMPTS, answers), scores)


def test_without_gguf_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)

    with pytest.raises(ImportError, match=r"pip install 'liftlearn\[gguf\]'"):
        LanguageModel.load(tmp_path / "model.gguf")
    with pytest.raises(FileNotFoundError, match=r"other\.gguf' does not exist"):
        LanguageModel.load("other.gguf")


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="Could not load a causal language model"):
        LanguageModel.load(str(tmp_path))


def test_an_unknown_name_offline_says_what_is_needed(monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("The test must not reach the network.")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)

    with pytest.raises(ValueError, match=r"'liftlearn/no-such-model'.*a connection"):
        LanguageModel.load("liftlearn/no-such-model")


def test_a_saved_model_gives_the_same_scores(lm, tmp_path):
    answers = ANSWER_SETS["several levels"]
    tuned = lm.trainable_copy()
    with torch.no_grad():
        tuned.model.get_input_embeddings().weight += 0.01
    tuned = tuned.scoring_copy()

    tuned.save(tmp_path)

    loaded = LanguageModel.load(tmp_path)
    assert loaded.preferences == lm.preferences
    assert loaded.model.dtype == lm.model.dtype
    np.testing.assert_array_equal(
        loaded.score(PROMPTS, answers), tuned.score(PROMPTS, answers)
    )
    assert np.abs(loaded.score(PROMPTS, answers) - lm.score(PROMPTS, answers)).max() > 0


def test_preferences_stand_in_the_config(llama_folder, tmp_path):
    LanguageModel.load(llama_folder).save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    preferences = {"precision": "float64", "regression": {"decoder": {"grid": "plain"}}}
    path.write_text(json.dumps({**config, "liftlearn": preferences}))

    loaded = LanguageModel.load(tmp_path)

    assert LanguageModel.load(llama_folder).preferences == {}
    assert loaded.preferences == preferences
    assert loaded.model.dtype == torch.float64


def test_a_saved_model_holds_no_code(lm, tmp_path):
    lm.save(tmp_path)

    endings = {path.suffix for path in Path(tmp_path).iterdir()}
    assert endings == {".json", ".safetensors"}


def test_loading_twice_shares_the_weights(llama_folder):
    first, second = (LanguageModel.load(llama_folder) for _ in range(2))

    assert first.model is second.model
    assert not first.model.training
    assert not any(weight.requires_grad for weight in first.model.parameters())


def test_a_folder_written_anew_is_loaded_anew(llama_folder, tmp_path):
    lm = LanguageModel.load(llama_folder)
    lm.save(tmp_path)
    before = LanguageModel.load(tmp_path).score(PROMPTS, ["a", "b"])
    changed = lm.trainable_copy()
    with torch.no_grad():
        changed.model.get_input_embeddings().weight *= 2

    changed.save(tmp_path)

    after = LanguageModel.load(tmp_path).score(PROMPTS, ["a", "b"])
    assert np.abs(after - before).max() > 1e-3


def test_copies_have_weights_of_their_own(lm):
    before = lm.score(PROMPTS, ["a", "b"])

    for copied in (lm.trainable_copy(), lm.scoring_copy()):
        with torch.no_grad():
            for weight in copied.model.parameters():
                weight.zero_()

    np.testing.assert_array_equal(lm.score(PROMPTS, ["a", "b"]), before)


@pytest.mark.parametrize("is_shown", [True, False])
def test_loading_and_saving_show_no_bars_and_keep_the_setting(
    llama_folder, tmp_path, capfd, is_shown
):
    was_shown = transformers_logging.is_progress_bar_enabled()
    switch = (
        transformers_logging.disable_progress_bar,
        transformers_logging.enable_progress_bar,
    )
    switch[is_shown]()
    try:
        LanguageModel.load(llama_folder).save(tmp_path / "model")
        LanguageModel.load(tmp_path / "model")
        with pytest.raises(ValueError, match="Could not load"):
            LanguageModel.load(tmp_path)

        assert transformers_logging.is_progress_bar_enabled() == is_shown
        assert "%" not in capfd.readouterr().err
    finally:
        switch[was_shown]()


# What is kept from one call to the next


def test_other_answers_after_others_are_scored_as_by_a_model_that_is_new(llama):
    fresh = [llama.merged().score(PROMPTS, answers) for answers in ANSWER_SETS.values()]

    for _ in range(2):
        for answers, expected in zip(ANSWER_SETS.values(), fresh, strict=True):
            np.testing.assert_array_equal(llama.score(PROMPTS, answers), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda lm: lm.model.double(),
        lambda lm: lm.model.get_input_embeddings().weight.mul_(2.0),
        lambda lm: setattr(lm, "model", LanguageModel.load().merged().model),
    ],
    ids=["precision", "weights", "model"],
)
@torch.no_grad()
def test_a_model_that_was_changed_is_scored_as_it_is(llama, change):
    lm, twin = llama.merged(), llama.merged()
    answers = ANSWER_SETS["one token"]
    before = lm.score(PROMPTS, answers)

    change(lm)
    change(twin)

    np.testing.assert_array_equal(
        lm.score(PROMPTS, answers), twin.score(PROMPTS, answers)
    )
    assert not np.array_equal(lm.score(PROMPTS, answers), before)


def test_neither_a_copy_nor_a_pickle_holds_what_is_made_again(llama):
    lm = llama.merged()
    size = len(pickle.dumps(lm))

    expected = lm.score(PROMPTS, ANSWER_SETS["grid"])

    assert len(pickle.dumps(lm)) == size
    for twin in (copy.copy(lm), copy.deepcopy(lm), pickle.loads(pickle.dumps(lm))):
        assert vars(twin).keys() == vars(llama.merged()).keys()
        np.testing.assert_array_equal(
            twin.score(PROMPTS, ANSWER_SETS["grid"]), expected
        )


def test_threads_that_ask_for_other_answers_get_their_own(llama):
    sets = [*ANSWER_SETS.values()] * 4
    expected = [llama.score(PROMPTS, answers) for answers in sets]

    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda answers: llama.score(PROMPTS, answers), sets)]

    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_in_training_is_scored_in_evaluation_and_goes_on_training(gpt2_folder):
    lm = LanguageModel.load(gpt2_folder).merged()  # which has dropout
    expected = lm.score(PROMPTS, ["a", "b"])
    lm.model.train()

    found = [lm.score(PROMPTS, ["a", "b"]) for _ in range(2)]

    np.testing.assert_array_equal(found, [expected] * 2)
    assert all(module.training for module in lm.model.modules())
    with pytest.raises(ValueError, match="tokens long"):
        lm.score(["long " * 400], ["a", "b"])
    assert lm.model.training


def test_too_long_a_row_is_told_by_us_alone(llama_folder, tmp_path):
    lm = LanguageModel.load(llama_folder).merged()
    lm.tokenizer.model_max_length = 16
    lm.save(tmp_path)
    lm = LanguageModel.load(tmp_path)
    told = []
    handler = logging.Handler()
    handler.emit = told.append
    logger = logging.getLogger("transformers")
    level = transformers_logging.get_verbosity()
    logger.addHandler(handler)
    try:
        lm.score(["age is 41. Retired?"], ["no", "yes"])
        with pytest.raises(ValueError, match="Row 0 is 2003 tokens long"):
            lm.score(["long " * 400], ["a", "b"])
    finally:
        logger.removeHandler(handler)
    assert told == []
    assert transformers_logging.get_verbosity() == level


def test_a_language_model_says_in_a_line_what_it_is(lm):
    shown = repr(lm)

    n_weights = sum(weight.numel() for weight in lm.model.parameters())
    assert shown.startswith(f"LanguageModel({type(lm.model).__name__}, {n_weights:,} ")
    assert "\n" not in shown
    assert "adapter" not in shown


def test_a_language_model_tells_its_adapter(gpt2_folder):
    lm = LanguageModel.load(gpt2_folder)

    adapted = lm.trainable_copy(lm.default_adapter())

    assert "adapter of rank 16" in repr(adapted)


def test_scores_that_are_no_numbers_are_refused(llama_folder):
    lm = LanguageModel.load(llama_folder).trainable_copy()
    with torch.no_grad():
        lm.model.model.norm.weight.fill_(1e38)
        lm.model.lm_head.weight.fill_(1e38)

    with pytest.raises(ValueError, match=r"are not numbers \(NaN\).*float32"):
        lm.score(["a", "bb"], ["x", "y"])
    rows = lm.sentences("a", [(" b", ["x", "y"]), (" c", ["x", "y"])])
    known = np.zeros((2, 2), int)
    with pytest.raises(ValueError, match="are not numbers"):
        rows.score(known, [0, 1])
    with pytest.raises(ValueError, match="are not numbers"):
        rows.draw(known - 1, [0, 1], np.zeros((2, 2)), 1.0)


@pytest.mark.parametrize(
    ("prompts", "answers"), [(["\ud800"], ["a", "b"]), (["x"], ["a", "b\udfff"])]
)
def test_texts_with_lone_surrogates_are_refused(llama, prompts, answers):
    with pytest.raises(ValueError, match="has a lone surrogate"):
        llama.score(prompts, answers)
