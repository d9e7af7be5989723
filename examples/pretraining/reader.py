"""The embedded model that reads tables in context, before any training.

Its tokenizer, random weights and preferences. May import tokenizers, torch and
transformers; of liftlearn the attention alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from architecture import byte_symbol
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AttentionInterface,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from liftlearn._language_model._in_context import NAME, attend

N_LEVELS, N_CLASSES, N_WORDS = 128, 128, 512
# The question and the answer have the first two positions, columns the others.
N_POSITIONS = 258
LAYERS = "row row across row across row across row across across"


@cache
def vocabulary() -> list[str]:
    """Return all tokens in their order."""
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}  # in no UTF-8 text
    alphabet = sorted(byte_symbol(byte) for byte in range(256) if byte not in never)
    words = [f"{i:02d}" for i in range(100)]
    words += [f"c{i}" for i in range(N_LEVELS)] + ["c?"]
    words += [f"y{i}" for i in range(N_CLASSES)] + ["y?", "y="]
    words += [f"w{i}" for i in range(N_WORDS)] + ["w="]
    return ["<pad>", "</s>", *alphabet, *(f"Ġ{word}" for word in words)]


@cache
def word_ids() -> dict[str, int]:
    """Return the token of each word that is one."""
    return {
        token[1:]: i for i, token in enumerate(vocabulary()) if token[0] == "Ġ" != token
    }


@cache
def byte_ids() -> list[int]:
    """Return the token of each byte; pads for those that no text has."""
    symbols = {token: i for i, token in enumerate(vocabulary())}
    return [symbols.get(byte_symbol(byte), 0) for byte in range(256)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the fixed tokenizer: known words are one token, all else is bytes."""
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(vocabulary())},
            merges=[],
            ignore_merges=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(" ?[^ ]+| "), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "</s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        split_special_tokens=True,
        model_max_length=N_POSITIONS,
    )


def preferences() -> dict[str, Any]:
    """Return what the model's configuration says under ``liftlearn``."""
    encoder = {
        "columns": "none",
        "numbers": "by_table",
        "spacing": "mixed",
        "jitter": 0.0,
        "text_length": 24,
    }
    tasks: dict[str, tuple[str, dict[str, Any]]] = {
        "classification": ("y?", {"words": "codes", "temperature": 1.0}),
        "regression": ("y=", {"grid": "scaled", "spacing": "by_table"}),
    }
    return {"precision": "float64"} | {
        task: {
            "encoder": {**encoder, "question": question},
            "finetuner": {"n_epochs": 0, "n_models": 1},
            "decoder": decoder,
            "n_shots": "all",
        }
        for task, (question, decoder) in tasks.items()
    }


def build_model(
    hidden: int = 192, heads: int = 6, layers: str = LAYERS, seed: int = 0
) -> GPT2LMHeadModel:
    """Return a model with random weights, whose attention reads in context."""
    kinds = layers.split()
    config = GPT2Config(
        vocab_size=len(vocabulary()),
        n_positions=N_POSITIONS,
        n_embd=hidden,
        n_layer=len(kinds),
        n_head=heads,
        n_inner=4 * hidden,
        activation_function="relu2",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
        use_cache=False,
    )
    config.across_layers = [i for i, kind in enumerate(kinds) if kind == "across"]
    config.liftlearn = preferences()
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(config)
    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)
    with torch.no_grad():
        for table in (model.transformer.wte, model.transformer.wpe):
            table.weight.normal_(std=hidden**-0.5)
    return model
