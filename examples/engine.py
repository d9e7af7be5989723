"""Predict with a fitted estimator whose model runs in an engine, such as vLLM.

The engine holds the base model and the adapter of the estimator's folder. It is asked
for the log-probabilities of the tokens that can follow, at each node of the trie of
answers, so that probabilities are exact, as they are here:

    vllm serve BASE --enable-lora --max-lora-rank 16 --lora-modules tuned=FOLDER
    python examples/engine.py FOLDER rows.csv --url http://localhost:8000 --name tuned

It must take ``logprob_token_ids`` in ``/v1/completions``, as vLLM does since 2026, and
no other package is needed. Of an ensemble give a name for each member's folder: FOLDER,
FOLDER/member-1 and so on. The estimator's own copy of the model only writes tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax

from liftlearn import LanguageModel, LIFTClassifier, load
from liftlearn._language_model import Ensemble

Floats = NDArray[np.float64]
# Prompts in one request; the engine makes its own batches of them.
_AT_ONCE = 256


class Engine(LanguageModel):
    """A language model whose scores come from a server.

    Parameters
    ----------
    lm : LanguageModel
        Whose tokens are sent.
    url : str
        The server, such as ``"http://localhost:8000"``.
    name : str
        What it calls the model, or the adapter.
    """

    def __init__(self, lm: LanguageModel, url: str, name: str) -> None:
        super().__init__(lm.model, lm.tokenizer)
        self.url = f"{url.rstrip('/')}/v1/completions"
        self.name = name

    def score(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        *,
        batch_size: int | None = None,
    ) -> Floats:
        """Return the log-probability of each answer, given that one of them follows."""
        trie = self.trie(answers)
        tokens = self.prompt_tokens(prompts, trie.depth)
        scores = np.zeros((len(tokens), len(answers)))
        size = batch_size or _AT_ONCE
        for number, path in enumerate(trie.nodes):
            columns = np.flatnonzero(trie.allowed[number])
            follows = [int(trie.columns[column]) for column in columns]
            passing, step = np.nonzero(trie.steps[..., 0] == number)
            taken = np.searchsorted(columns, trie.steps[passing, step, 1])
            for first in range(0, len(tokens), size):
                rows = slice(first, first + size)
                asked = [[*ids, *path] for ids in tokens[rows]]
                log_prob = log_softmax(self._ask(asked, follows), axis=1)
                scores[rows, passing] += log_prob[:, taken]
        return scores

    def _ask(self, prompts: list[list[int]], follows: list[int]) -> Floats:
        """Return how probable each of some tokens is behind each prompt, as a log."""
        asked = {
            "model": self.name,
            "prompt": prompts,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": follows,
            "return_tokens_as_token_ids": True,
        }
        request = Request(
            self.url, json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urlopen(request) as response:
            choices = json.load(response)["choices"]
        by_prompt = sorted(choices, key=lambda choice: int(choice["index"]))
        rows = [choice["logprobs"]["top_logprobs"][0] for choice in by_prompt]
        try:
            return np.array([[row[f"token_id:{t}"] for t in follows] for row in rows])
        except KeyError as missing:
            raise RuntimeError(
                f"{self.url} left out the log-probability of {missing}. Take a version "
                "of the engine that knows logprob_token_ids."
            ) from missing


def served(estimator: Any, url: str, names: Sequence[str]) -> Any:
    """Return an estimator, as it is but that its members are scored by a server."""
    lm = estimator.language_model_
    members = lm.members if isinstance(lm, Ensemble) else (lm,)
    if len(names) != len(members):
        raise ValueError(
            f"Expected a name for each of {len(members)} members, got {names!r}."
        )
    engines = [
        Engine(member, url, name) for member, name in zip(members, names, strict=True)
    ]
    estimator.language_model_ = (
        Ensemble(tuple(engines)) if len(engines) > 1 else engines[0]
    )
    return estimator


def main() -> None:
    """Predict the rows of a CSV, and print them with their predictions."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="what an estimator's save wrote")
    parser.add_argument("rows", type=Path, help="a CSV of rows")
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--name", nargs="+", default=["tuned"])
    options = parser.parse_args()
    estimator = served(load(options.folder), options.url, options.name)
    rows = pd.read_csv(options.rows)
    results = rows.assign(prediction=estimator.predict(rows))
    if isinstance(estimator, LIFTClassifier):
        results["probability"] = estimator.predict_proba(rows).max(axis=1)
    results.to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    main()
