"""A causal language model that scores answers: load, save, tokens, trie, scores.

Prompts and answer texts go in, log-probabilities come out. The boundary between the
tokens of a prompt and of an answer is made here only, and the function that scores is
the one that training maximises. The only package that imports transformers.
"""

from liftlearn._language_model._adapter import adapter_config, adapter_parameters
from liftlearn._language_model._ensemble import Ensemble
from liftlearn._language_model._model import LanguageModel
from liftlearn._language_model._preferences import TASKS
from liftlearn._language_model._pretrained import DTYPES, READER
from liftlearn._language_model._scorer import AnswerScorer, Field, SentenceScorer, Trie
from liftlearn._language_model._sentences import Sentences
from liftlearn._language_model._shards import is_to_spread, shares, without_fsdp
from liftlearn._language_model._surroundings import plain_torch

__all__ = [
    "DTYPES",
    "READER",
    "TASKS",
    "AnswerScorer",
    "Ensemble",
    "Field",
    "LanguageModel",
    "SentenceScorer",
    "Sentences",
    "Trie",
    "adapter_config",
    "adapter_parameters",
    "is_to_spread",
    "plain_torch",
    "shares",
    "without_fsdp",
]
