"""Tiny models, corpora, tables and fits, which several files of tests share."""

import os
from functools import cache

import gguf
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.random import RandomState
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from liftlearn import (
    FineTuner,
    LabelDecoder,
    LIFTClassifier,
    LIFTRegressor,
    RowEncoder,
)
from liftlearn._corpus import Corpus

# A GPU would be taken by default; the laws of rounding are those of a processor, and
# tensors that tests make lie there. Who sets the variable tests on a GPU.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

# Models: random weights, tokenizers of bytes


def byte_tokenizer(*control_tokens, start=None):
    """Return a tokenizer of 256 bytes and control tokens, of which texts may begin."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(control_tokens))
    if start is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))]
        )
    return tokenizer


def bytes_without_start():
    """Return a tokenizer with nothing but bytes and an end mark."""
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer("<|endoftext|>"), eos_token="<|endoftext|>"
    )


def random_model(config):
    """Return a language model with the same random weights each time."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config)


def saved(config, tokenizer, folder):
    """Save a model with random weights and its tokenizer; return the folder."""
    random_model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def saved_gpt2(folder):
    """Save a GPT-2: learnt positions, dropout, one control token."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer("<|endoftext|>"),
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=1024,
        n_embd=32,
        n_layer=1,
        n_head=2,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return saved(config, tokenizer, folder)


def saved_llama(folder, tokenizer=None, **settings):
    """Save a Llama: rotary positions, prompts that begin with ``<s>`` by default."""
    tokenizer = tokenizer or PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer("<s>", "</s>", "<pad>", start="<s>"),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    sizes = {
        "max_position_embeddings": 1024,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{**sizes, **settings},
    )
    return saved(config, tokenizer, folder)


def write_gguf(lm, path):
    """Write a Llama as a ``.gguf`` file, its matrices quantized to eight bits."""
    config, tokenizer = lm.model.config, lm.tokenizer
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    writer.add_token_scores([0.0] * len(tokenizer))  # merges are made from them: none
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    n_heads = config.num_attention_heads
    for name, weight in lm.model.state_dict().items():
        matrix = weight.numpy()
        if "q_proj" in name or "k_proj" in name:  # halves of rotations interleaved
            matrix = matrix.reshape(n_heads, 2, -1, matrix.shape[1]).swapaxes(1, 2)
            matrix = matrix.reshape(weight.shape)
        kind = None
        if matrix.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            matrix = gguf.quants.quantize(matrix, kind)
        label = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(label, matrix, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# Stand-ins


class FixedScores:
    """Stands in for a language model: each prompt has the same scores, in nats."""

    def __init__(self, scores):
        self.scores = np.asarray(scores, dtype=np.float64)

    def score(self, prompts, answers):
        return np.broadcast_to(self.scores, (len(prompts), len(answers)))


class ScoresByPrompt:
    """Stands in for a language model: prompt "i" has row i of the scores."""

    def __init__(self, scores):
        self.scores = np.asarray(scores, dtype=np.float64)

    def score(self, prompts, answers):
        return self.scores[[int(prompt) for prompt in prompts]]


class Ticks:
    """Stands in for the module `time`: each look at the clock takes a second."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        self.seconds += 1.0
        return self.seconds


# Corpora, and what was learnt of them


def sentences(n_rows=8, target=None):
    """Return a corpus of ``n_rows`` short prompts, the answers "a" and "b" in turns."""
    table = pd.DataFrame({"x": np.arange(n_rows) % 10})
    target = np.array(["a", "b"])[np.arange(n_rows) % 2] if target is None else target
    encoder = RowEncoder(question="y?").fit(table)
    answers = LabelDecoder().fit(target).answers_
    return Corpus(encoder, answers, table, target, np.ones(n_rows))


# Of fits that are cut off, which several processes do alike.
SETTINGS = {"n_epochs": 3, "batch_size": 2, "learning_rate": 0.01}


class CutOff(RowEncoder):
    """Writes rows afresh for so many times, and then stops the training."""

    def cut_after(self, n_times):
        self.n_left = n_times
        return self

    def augment(self, X, rng, progress):
        if self.n_left == 0:
            raise KeyboardInterrupt
        self.n_left -= 1
        return super().augment(X, rng, progress)


def jittered(n_rows, n_times=1000):
    """Return a corpus whose prompts are drawn, written so many times at most."""
    table = pd.DataFrame({"x": np.arange(n_rows) / 7, "z": np.arange(n_rows) % 3 / 3})
    encoder = CutOff(jitter=0.5, jitter_decay=0.1, shuffle_columns=True, question="y?")
    encoder.fit(table).cut_after(n_times)
    target = np.array(["a", "b"])[np.arange(n_rows) % 2]
    answers = LabelDecoder().fit(target).answers_
    return Corpus(encoder, answers, table, target, np.ones(n_rows))


def prompts_of(corpus):
    return corpus.encoder.transform(corpus.table)


def scores_of(lm, corpus):
    return lm.score(prompts_of(corpus), corpus.answers.texts)


def own_loss(lm, corpus):
    """Return the mean loss of a corpus, in nats."""
    own = corpus.answers.write(corpus.target, RandomState(0))
    return -scores_of(lm, corpus)[np.arange(len(own)), own].mean()


def only(members):
    """Return the language model of a fine-tuner's only member."""
    (member,) = members
    return member.lm


def weights_of(lm):
    return {name: w.clone() for name, w in lm.model.state_dict().items()}


def are_equal(weights, others):
    return all(torch.equal(weight, others[name]) for name, weight in weights.items())


# Tables, and estimators that learn from them for a moment

# What a law says of a fit, it says of a short one.
SHORT = {"max_steps": 3, "batch_size": 8}
BOTH_TASKS = pytest.mark.parametrize("task", ["classes", "numbers"])


def mixed_table(n_rows=24, seed=0):
    """Return a table with cells of every kind, some of them missing."""
    rng = np.random.RandomState(seed)
    table = pd.DataFrame(
        {
            "size": rng.lognormal(size=n_rows),
            "rooms": rng.randint(1, 5, n_rows),
            "place": rng.choice(["hill", "lake", "town"], n_rows),
            "new": rng.rand(n_rows) < 0.5,
            "state": pd.Categorical(
                rng.choice(["bad", "fair", "good"], n_rows),
                ["bad", "fair", "good"],
                ordered=True,
            ),
            "sold": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(rng.randint(0, 900, n_rows), unit="D"),
            "note": [f"owner {i} says {rng.rand():.2f}" for i in range(n_rows)],
        }
    )
    return table.mask(rng.rand(*table.shape) < 0.1)


def labels_of(table):
    """Return three labels for the rows of a table."""
    return np.array(["low", "mid", "top"])[np.arange(len(table)) % 3]


def numbers_of(table):
    """Return numbers from 0 to 10 for the rows of a table."""
    return np.linspace(0.0, 10.0, len(table))


def blobs(n_rows=40, seed=0):
    """Return two numeric columns, and a class that their sum decides."""
    rng = np.random.RandomState(seed)
    table = pd.DataFrame(rng.randn(n_rows, 2), columns=["a", "b"])
    return table, (table.sum(axis=1) > 0).to_numpy(int)


def short_classifier(**parameters):
    return LIFTClassifier(
        **{"finetuner": FineTuner(**SHORT), "random_state": 0, **parameters}
    )


def short_regressor(**parameters):
    return LIFTRegressor(
        **{"finetuner": FineTuner(**SHORT), "random_state": 0, **parameters}
    )


def problem(task):
    """Return an estimator that learns for a moment, a table and a target."""
    table = mixed_table()
    if task == "classes":
        return short_classifier(), table, labels_of(table)
    return short_regressor(), table, numbers_of(table)


@cache
def fitted_problem(task):
    """Return what `problem` does, its estimator fitted: once for all, to be read."""
    estimator, table, target = problem(task)
    return estimator.fit(table, target), table, target


@cache
def fitted_blobs():
    """Return a classifier that was fitted on `blobs`: once for all, to be read."""
    return short_classifier().fit(*blobs())


def outputs(estimator, X):
    """Return the numbers that an estimator gives for a table, a row each."""
    if isinstance(estimator, LIFTClassifier):
        return estimator.predict_proba(X)
    return np.column_stack(estimator.predict(X, return_std=True))


def by_rule(part, *names):
    """Let a part have a model that leaves some parameters to their rules."""
    return part._prefer(dict.fromkeys(names, "by_table"))


def examples(lm, scorer, prompts, answers):
    """Return prompts with their answers as a scorer reads them in training."""
    tokens, steps = scorer.examples(lm.prompt_tokens(prompts), answers)
    return {**lm.padded(tokens), "steps": torch.tensor(steps)}
