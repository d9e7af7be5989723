"""Tiny random models of many families, and how each is read.

The tests share them with a page of the docs: ``python tests/families.py`` prints it.
"""

import sys
import tempfile
import warnings

import torch
from tiny import bytes_without_start, saved
from transformers import CONFIG_MAPPING
from transformers.utils import logging

from liftlearn import LanguageModel
from liftlearn._language_model import AnswerScorer
from liftlearn._language_model._trial import passes_of

# What most families call their sizes; each takes those that it knows.
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 48,
    "init_std": 0.3,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "state_size": 4,
}
DECODER = {"is_decoder": True, "pad_token_id": 1}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
LATENT = {"num_key_value_heads": 2, "head_dim": 8, "qk_head_dim": 16}
LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 1,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}


def long_rope(n_factors):
    """Return positions that turn to others within the answers of a prompt."""
    return {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 55,
            "short_factor": [1.0] * n_factors,
            "long_factor": [4.0] * n_factors,
            "short_mscale": 1.1,
            "long_mscale": 1.2,
        }
    }


def rope(kind, **settings):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}


# What a family calls its sizes, or has beside them; windows are shorter than prompts.
# Behind a comma stands a variant.
FAMILIES = {
    "afmoe": {"sliding_window": 8},
    "apertus": {},
    "arcee": {},
    "aria_text": {},
    "bailing_hybrid": {},
    "bamba": MAMBA,
    "bart": {},
    "beam": {},
    "bert": {},
    "bert, as a decoder": DECODER,
    "bert-generation": DECODER,
    "big_bird": DECODER,
    "bigbird_pegasus": {"block_size": 4},
    "biogpt": {},
    "bitnet": {},
    "blenderbot": {},
    "blenderbot-small": {},
    "bloom": {},
    "camembert": DECODER,
    "codegen": {  # its layers cut the heads into four
        "rotary_dim": 8,
        "num_attention_heads": 4,
    },
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"sliding_window": 8},
    "ctrl": {"dff": 48},
    "cwm": {},
    "deepseek_v2": {"num_key_value_heads": 2},
    "deepseek_v3": LATENT,
    "deepseek_v32": {
        "num_key_value_heads": 2,
        "index_n_heads": 2,
        "index_head_dim": 16,
        "index_topk": 16,
    },
    "diffllama": {"num_key_value_heads": 2},
    "doge": {},
    "dots1": {"n_group": 1, "topk_group": 1, "n_shared_experts": 1},
    "electra": DECODER,
    "ernie": DECODER,
    "ernie4_5": {},
    "ernie4_5_moe": {},
    "exaone4": {"sliding_window": 8},
    "falcon": {"alibi": False},
    "falcon, with ALiBi": {"alibi": True},
    "falcon_h1": {"lm_head_multiplier": 0.5, "mamba_d_ssm": 32, "mamba_n_heads": 2},
    "falcon_mamba": {},
    "flex_olmo": {},
    "gemma": {},
    "gemma2": {"sliding_window": 8, "final_logit_softcapping": 0.5},
    "gemma3": {
        "text_config": {
            **{name: SIZES[name] for name in list(SIZES)[:8]},
            "vocab_size": 257,
            "sliding_window": 8,
        },
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        "image_token_index": 250,
        "boi_token_index": 251,
        "eoi_token_index": 252,
    },
    "gemma3_text": {"sliding_window": 8},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 257,
        "altup_num_inputs": 2,
        "laurel_rank": 8,
    },
    "glm": {},
    "glm4": {},
    "glm4_moe": {},
    "gpt-sw3": {},
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 16},
    "gpt_neox": {},
    "gpt_neox_japanese": {},
    "gpt_oss": {"sliding_window": 8},
    "gptj": {"rotary_dim": 8},
    "granite": {"logits_scaling": 4.0},
    "granitemoe": {},
    "granitemoehybrid": {**MAMBA, "layer_types": ["mamba", "attention"]},
    "granitemoeshared": {},
    "helium": {},
    "hunyuan_v1_dense": {},
    "hunyuan_v1_moe": {},
    "jamba": {},
    "jetmoe": {},
    "laguna": {},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "llama": {},
    "llama, dynamic NTK": rope("dynamic", factor=4.0),
    "llama, YaRN": rope("yarn", factor=4.0, original_max_position_embeddings=32),
    "llama4_text": {"attention_chunk_size": 16},
    "mamba": {},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 16},
    "marian": {},
    "mbart": {},
    "megatron-bert": DECODER,
    "minicpm3": {"num_key_value_heads": 2},
    "minicpm3, LongRoPE": {"num_key_value_heads": 2, **long_rope(4)},
    "minimax": {"block_size": 16},
    "minimax_m2": {},
    "ministral": {"sliding_window": 8},
    "mistral": {"sliding_window": 8},
    "mixtral": {},
    "modernbert-decoder": {"local_attention": 16},
    "mpt": {},
    "mvp": {},
    "nanochat": {},
    "nemotron": {},
    "nemotron_h": {
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 1,
        "layers_block_type": ["mamba", "attention"],
    },
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": 8},
    "olmoe": {},
    "openai-gpt": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16},
    "pegasus": {},
    "persimmon": {},
    "phi": {"num_key_value_heads": 2},
    "phi3": {},
    "phi3, LongRoPE": {"original_max_position_embeddings": 55, **long_rope(8)},
    "phimoe": {},
    "phimoe, LongRoPE": long_rope(8),
    "plbart": {},
    "qwen2": {},
    "qwen2, with a window": {
        "use_sliding_window": True,
        "sliding_window": 8,
        "max_window_layers": 1,
    },
    "qwen2_moe": {},
    "qwen3": {},
    "qwen3_5_text": LINEAR,
    "qwen3_moe": {},
    "qwen3_next": LINEAR,
    "recurrent_gemma": {"attention_window_size": 16},
    "reformer": {
        "is_decoder": True,
        "axial_pos_embds": False,
        "attn_layers": ["local", "lsh"],
        "attention_head_size": 16,
        "feed_forward_size": 48,
        "num_buckets": 4,
    },
    "roberta": DECODER,
    "roformer": DECODER,
    "rwkv": {},
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {"sliding_window": 8},
    "trocr": {},
    "vaultgemma": {"sliding_window": 8},
    "xglm": {"ffn_dim": 48, "num_layers": 2, "attention_heads": 2},
    "xlm": {},
    "xlm-roberta": DECODER,
    "xlnet": {"d_head": 16, "d_inner": 48, "n_layer": 2, "n_head": 2},
    "xlstm": {},
    "youtu": LATENT,
    "zamba2": {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
    },
    "zaya": {"num_experts_per_tok": 1},
}
PROMPTS = [
    "age is 41, job is nurse. Retired?",
    "Retired?",
    "x0 53 x1 7 x2 12, age is 123 and job is unknown. y?",
]
ANSWERS = ["1", "12", "123", "no", "not yet", "yes", "yes, last year"]
# The steps of training with the default adapter that are tried.
N_STEPS = 2


def made(family, tokenizer, folder):
    """Save a tiny model of a family; return the folder."""
    config_class = CONFIG_MAPPING[family.split(",")[0]]
    known = config_class().to_dict().keys() | config_class.attribute_map.keys()
    settings = FAMILIES[family]
    sizes = {} if "text_config" in settings else SIZES
    end = tokenizer.eos_token_id
    control = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    config = config_class(
        **{name: size for name, size in sizes.items() if name in known}
        | {"vocab_size": len(tokenizer)}
        | control
        | settings
    )
    return saved(config, tokenizer, folder)


def tuned_scores(lm, precision):
    """Return a family's scores after steps with its default adapter."""
    copy = lm.trainable_copy(lm.default_adapter(), precision)
    scorer = AnswerScorer(copy.model, copy.trie(ANSWERS))
    scorer.train()
    weights = [weight for weight in copy.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    tokens, steps = scorer.examples(copy.prompt_tokens(PROMPTS), range(len(PROMPTS)))
    inputs = {**copy.padded(tokens), "steps": torch.tensor(steps)}
    for _ in range(N_STEPS):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            score = scorer(**inputs)
        (-score.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return copy.scoring_copy().score(PROMPTS, ANSWERS)


def row(family, folder):
    """Return the line of the page for a family."""
    made(family, bytes_without_start(), folder)
    try:
        lm = LanguageModel.load(folder)
    except ValueError as error:
        reason = str(error).partition("': ")[2].partition(". ")[0]
        return f"| {family} | refused: {reason} | | | | |"
    lm.score(PROMPTS, ANSWERS)
    manner = passes_of(lm.model).manner
    tuned_scores(lm, torch.bfloat16)
    does = [manner.goes_on, manner.skips, manner.reads_trees]
    marks = " | ".join("yes" if can else "no" for can in does)
    return f"| {family} | {manner.batches} | {marks} | yes |"


PAGE = """\
# How families of models are read

Whatever the model, the score of an answer is what the model itself says of the row \
alone, with no padding and no cache. Reading many rows at once, and reading on from a \
cache, must not change it. Families differ in what they get right. So it is tried on a \
few tokens when a model is loaded. What fails is done without, at a cost of time. A \
model that no way reads right is refused with a sentence that says why.

| column | means |
| --- | --- |
| rows in a pass | `any rows`: rows of different lengths are padded and read together. \
`equal lengths`: only rows of one length are, so a mixed batch takes several passes |
| reads on | answers are read from a cache of the prompt, else the prompt is read \
again for each |
| shared beginning | what all rows begin with is read once |
| tree | all answers are read in one pass behind the prompt, else level by level |
| default adapter | LoRA with its default settings trains, in bf16 |

Each line is a tiny model with random weights, made and loaded by \
`python tests/families.py`. "As a decoder" is `is_decoder=True` in the configuration.

Some things show only in rows longer than those tried. A window in the configuration, \
or in a mask among the model's buffers, rules out trees and shared beginnings. Sparse \
attention over more tokens than were tried rules out padding and caches. LongRoPE \
models read rows on either side of their original length in separate passes, and a row \
that crosses it within the answers without a cache.

| family | rows in a pass | reads on | shared beginning | tree | default adapter |
| --- | --- | --- | --- | --- | --- |
"""


def main():
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sys.stdout.write(PAGE)
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(f"{row(family, folder)}\n")


if __name__ == "__main__":
    main()
