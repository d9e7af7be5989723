"""The laws of scoring, for each family of models and each kind of tokenizer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from families import (
    ANSWERS,
    FAMILIES,
    PROMPTS,
    made,
    tuned_scores,
)
from tiny import bytes_without_start, examples, saved
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast

from liftlearn import FineTuner, LanguageModel, LIFTClassifier
from liftlearn._language_model import AnswerScorer
from liftlearn._language_model._passes import Passes, own_logits
from liftlearn._language_model._trial import passes_of

# Families of which every law is tried; of the others that scores are exact.
THOROUGH = [
    *("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi", "phi3"),
    *("gpt2", "gpt_neox", "gptj", "opt", "bloom", "falcon", "falcon, with ALiBi"),
    *("smollm3", "cohere", "granite", "mamba", "falcon_h1", "gpt_neo", "bart"),
    *("rwkv", "lfm2", "modernbert-decoder"),
]
REFUSED = {
    "bert": "reads text in both directions",
    "deepseek_v32": "reads the same text otherwise when more follows",
    "reformer": "something else of the same text each time",
    "xlm": "reads text in both directions",
    "xlnet": "reads text in both directions",
}
TEXT = [
    "age is 41, job is nurse. Retired?",
    "x0 53 x1 c7 x2 2024-11-23 y? yes no not yet",
    "12 123 1234 3.14 0.5 yes, last year yes, long ago",
]


def trained_tokenizer(pre_tokenizer, decoder, control, template=None):
    """Return a tokenizer with merges, trained on a few words."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=alphabet,
        special_tokens=list(control.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 20, trainer)
    if template:
        start = tokenizer.token_to_id(control["bos_token"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(control["bos_token"], start)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **control)


def byte_level(split):
    """Return byte-level BPE that splits digits in its own way, without pad or start."""
    pre = [
        pre_tokenizers.Split(Regex(split), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
    return trained_tokenizer(
        pre_tokenizers.Sequence(pre), decoders.ByteLevel(), {"eos_token": "</s>"}
    )


def sentence_piece(prepend):
    """Return a tokenizer that writes a space before a text, and starts with a mark."""
    return trained_tokenizer(
        pre_tokenizers.Metaspace(prepend_scheme=prepend),
        decoders.Metaspace(prepend_scheme=prepend),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        template="<s> $A",
    )


TOKENIZERS = {
    "bytes": bytes_without_start,
    "digit by digit": lambda: byte_level(r"\d"),
    "digits in threes": lambda: byte_level(r"\d{1,3}"),
    "merges across the boundary": lambda: byte_level(r"\n"),
    "sentence piece": lambda: sentence_piece("always"),
    "sentence piece at the start": lambda: sentence_piece("first"),
}


@pytest.fixture(scope="module", params=THOROUGH)
def family(request, tmp_path_factory):
    """Make a tiny model of each family, with one kind of tokenizer after the other."""
    kinds = list(TOKENIZERS.values())
    tokenizer = kinds[THOROUGH.index(request.param) % len(kinds)]()
    folder = made(request.param, tokenizer, tmp_path_factory.mktemp("family"))
    return LanguageModel.load(folder)


# All of them together take half a minute.
EVERY = [
    pytest.param(name, marks=[] if name in THOROUGH else pytest.mark.slow)
    for name in FAMILIES
    if name not in REFUSED
]


@pytest.fixture(scope="module", params=EVERY)
def any_family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any_family")
    return LanguageModel.load(made(request.param, bytes_without_start(), folder))


def plain_scores(lm, prompts, answers):
    """Return the scores by the model's own logits, one text at a time, with no cache.

    Each token of an answer competes with those that follow there in some answer. What
    the model says of a token is what it says of the text up to there.
    """
    paths = lm.trie(answers).whole
    scores = np.zeros((len(prompts), len(paths)))
    for row, prompt in enumerate(lm.prompt_tokens(prompts)):
        says = {}
        for column, path in enumerate(paths):
            for depth, token in enumerate(path):
                before = path[:depth]
                rivals = {p[depth] for p in paths if p[:depth] == before}
                if len(rivals) > 1:
                    if before not in says:
                        text = torch.tensor([*prompt, *before])
                        with torch.no_grad():
                            says[before] = own_logits(lm.model, text)[-1].double()
                    here = says[before]
                    scores[row, column] += here[token] - here[list(rivals)].logsumexp(0)
    return scores


@pytest.mark.parametrize("shared", ["", "Among the patients of one ward, "])
def test_any_family_scores_as_its_own_logits_say(any_family, shared, monkeypatch):
    monkeypatch.setattr("liftlearn._language_model._passes._SHARED_TOKENS", 1)
    prompts = [shared + prompt for prompt in PROMPTS]

    together = any_family.score(prompts, ANSWERS)

    expected = plain_scores(any_family, prompts, ANSWERS)
    np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-4)


def test_any_family_learns_with_its_default_adapter_in_bf16(any_family):
    scores = tuned_scores(any_family, torch.bfloat16)

    assert np.isfinite(scores).all()
    assert not np.allclose(scores, any_family.score(PROMPTS, ANSWERS))


@pytest.mark.parametrize("name", REFUSED)
def test_a_family_that_cannot_be_read_right_is_refused_with_its_name(name, tmp_path):
    made(name, bytes_without_start(), tmp_path)

    with pytest.raises(ValueError, match=REFUSED[name]) as refusal:
        LanguageModel.load(tmp_path)

    assert str(tmp_path) in str(refusal.value)


def test_the_page_of_families_has_a_line_for_each():
    page = Path(__file__).parents[1] / "docs" / "families.md"
    lines = page.read_text("utf-8").splitlines()

    named = [line.split(" | ")[0].removeprefix("| ") for line in lines if "|" in line]

    assert [name for name in named if name in FAMILIES] == list(FAMILIES)


def test_a_family_scores_as_its_own_logits_say(family):
    expected = plain_scores(family, PROMPTS, ANSWERS)

    for batch_size in (1, 2, None):
        scores = family.score(PROMPTS, ANSWERS, batch_size=batch_size)

        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1.0, atol=1e-6)
    assert np.ptp(expected, axis=0).min() > 1e-3, "all prompts look alike"


def test_a_familys_training_loss_is_its_prediction_score(family):
    scorer = AnswerScorer(family.model, family.trie(ANSWERS))
    own = np.arange(len(ANSWERS))
    prompts = [PROMPTS[i % len(PROMPTS)] for i in own]

    with torch.no_grad():
        trained = scorer(**examples(family, scorer, prompts, own)).numpy()

    used = family.score(prompts, ANSWERS)[own, own]
    np.testing.assert_allclose(trained, used, rtol=1e-4, atol=1e-5)


def test_what_rows_begin_with_does_not_change_a_familys_loss(family, monkeypatch):
    scorer = AnswerScorer(family.model, family.trie(ANSWERS))
    prompts = [f"Among the patients of one ward, {prompt}" for prompt in PROMPTS]
    own = np.arange(len(prompts)) % len(ANSWERS)
    tokens, steps = scorer.examples(family.prompt_tokens(prompts), own)
    monkeypatch.setattr("liftlearn._language_model._passes._SHARED_TOKENS", 1)

    n_shared = scorer.passes.n_shared(tokens, scorer.n_answer_tokens)

    assert bool(n_shared) == scorer.passes.manner.skips
    if n_shared:
        asked = torch.tensor(steps)
        rest = family.padded([ids[n_shared:] for ids in tokens])
        start = torch.tensor([tokens[0][:n_shared]])
        with torch.no_grad():
            whole = scorer(**family.padded(tokens), steps=asked)
            parted = scorer(**rest, steps=asked, start=start)
        torch.testing.assert_close(parted, whole, rtol=1e-4, atol=1e-5)


def test_what_all_prompts_begin_with_does_not_change_a_familys_scores(
    family, monkeypatch
):
    monkeypatch.setattr("liftlearn._language_model._passes._SHARED_TOKENS", 1)
    shared = "Among the patients of one ward, "
    prompts = [shared + prompt for prompt in PROMPTS]

    together = family.score(prompts, ANSWERS)

    alone = np.vstack([family.score([prompt], ANSWERS) for prompt in prompts])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reads_trees", [True, False])
def test_a_familys_scores_do_not_depend_on_how_the_answers_are_passed_over(
    family, reads_trees, monkeypatch
):
    at_once = family.score(PROMPTS, ANSWERS)
    monkeypatch.setattr("liftlearn._language_model._scorer._WALK_TOKENS", 1)
    monkeypatch.setattr("liftlearn._language_model._scorer._TREE_TOKENS", 1)
    if not reads_trees:
        monkeypatch.setattr(Passes, "can_read_tree", lambda *read_and_depth: False)

    one_by_one = family.score(PROMPTS, ANSWERS)

    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-4, atol=1e-5)


def test_families_read_all_answers_in_one_pass_where_they_can(family, request):
    others = ["mistral", "gemma2", "gemma3_text", "bloom", "falcon, with ALiBi"]
    others += ["mamba", "falcon_h1", "gpt_neo", "bart", "rwkv", "lfm2"]
    others += ["modernbert-decoder"]

    name = request.node.callspec.params["family"]

    assert passes_of(family.model).manner.reads_trees == (name not in others)


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_prompt_and_answer_read_as_one_text(make, llama_folder):
    lm = LanguageModel(LanguageModel.load(llama_folder).model, make())

    for prompt, ids in zip(PROMPTS, lm.prompt_tokens(PROMPTS), strict=True):
        for answer, path in zip(ANSWERS, lm.trie(ANSWERS).whole, strict=True):
            text = lm.tokenizer.decode([*ids, *path], skip_special_tokens=True)

            assert text.strip() == f"{prompt} {answer}"


def test_an_estimator_learns_with_a_model_that_has_no_cache(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "state_size": 4}
    tokenizer = TOKENIZERS["bytes"]()
    config = CONFIG_MAPPING["mamba"](vocab_size=len(tokenizer), **sizes)
    folder = saved(config, tokenizer, tmp_path)
    X, y = np.array([[f"house {i}"] for i in range(16)]), np.arange(16) % 2
    untuned = LIFTClassifier(folder, finetuner=FineTuner(n_epochs=0)).fit(X, y)
    rarer = untuned.predict_proba(X).mean(axis=0).argmin()

    # What the model finds less probable is what nearly all rows have.
    tuner = FineTuner(n_epochs=5, learning_rate=0.02)
    classifier = LIFTClassifier(folder, finetuner=tuner, random_state=0)
    classifier.fit(X, [1 - rarer] + [rarer] * 15)

    assert classifier.predict_proba(X)[:, rarer].min() > 0.5
