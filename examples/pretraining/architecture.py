"""The embedded model before any training: tokenizer, weights, preferences.

May import tokenizers, torch and transformers; nothing of liftlearn.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

N_SLOTS, N_LEVELS, N_CODES = 128, 64, 128
CONTEXT = 4096
PREFERENCES: dict[str, Any] = {
    "encoder": {
        "columns": "by_table",
        "numbers": "by_table",
        "spacing": "mixed",
        "jitter": "by_table",
        "word_dropout": 0.2,
        "text_length": 48,
        "text_topics": 8,
    },
    "finetuner": {
        "learning_rate": "by_table",
        "batch_size": 32,
        "n_epochs": "by_table",
        "max_steps": "by_table",
        "n_models": "by_table",
        "validation_fraction": "by_table",
        "weight_decay": 0.0,
        "warmup_ratio": 0.1,
    },
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the fixed tokenizer: known words are one token, all else is bytes."""
    words = [f"x{i}" for i in range(N_SLOTS)]
    words += [f"{i:02d}" for i in range(100)]
    words += [f"c{i}" for i in range(N_LEVELS)] + ["c?"]
    words += [f"y{i}" for i in range(N_CODES)]
    words += ["y?", "y="]
    # Bytes that no UTF-8 text holds could never be trained.
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}
    alphabet = sorted(
        set(pre_tokenizers.ByteLevel.alphabet()) - {byte_symbol(b) for b in never}
    )
    tokens = ["<s>", "<pad>", "</s>", *alphabet, *(f"Ġ{word}" for word in words)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
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
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        split_special_tokens=True,
        model_max_length=CONTEXT,
    )


def byte_symbol(value: int) -> str:
    """Return the character by which byte-level vocabularies stand for a byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return chr(value) if value in plain else chr(256 + others.index(value))


def preferences() -> dict[str, Any]:
    """Return what the model's configuration says under ``liftlearn``."""
    labels = {"words": "codes", "temperature": "by_table"}
    numbers = {"grid": "scaled", "spacing": "by_table"}
    tasks: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "classification": ({"question": "y?", "cell_dropout": "by_table"}, labels),
        "regression": ({"question": "y=", "jitter_decay": 0.2}, numbers),
    }
    return {"precision": "float64"} | {
        task: {
            "encoder": {**PREFERENCES["encoder"], **encoder},
            "finetuner": PREFERENCES["finetuner"],
            "decoder": decoder,
        }
        for task, (encoder, decoder) in tasks.items()
    }


def build_model(
    tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int, seed: int
) -> LlamaForCausalLM:
    """Return a model with random weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.liftlearn = preferences()
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)
