"""Families of models, trained with an adapter by two launched processes and by one.

Two processes hold whole models, or shares of them (FSDP). From the folder ``tests``::

    python -m campaigns.launched [FAMILY ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from families import FAMILIES, made
from tiny import bytes_without_start

from campaigns.outcomes import report
from liftlearn import FineTuner, LanguageModel, LIFTClassifier

_LAUNCH = (
    "-m accelerate.commands.launch --num_processes 2 --num_machines 1 --mixed_precision"
    " no --dynamo_backend no --main_process_port 0"
)
# How far losses and probabilities of one process, and of two of another kind, may be.
_ROUNDING, _SAME = 2e-3, 1e-5


def learnt(folder):
    """Return the losses and probabilities of a model's fit, or how it is refused."""
    X = pd.DataFrame(
        {"x": np.arange(13) / 7, "word": [*"abcd", "bb and so on"] * 2 + [*"aaa"]}
    )
    y = np.arange(13) % 2
    try:
        tuner = FineTuner(
            n_epochs=2, learning_rate=1e-2, batch_size=4, n_models=1,
            mixed_precision="no", adapter=LanguageModel.load(folder).default_adapter(),
        )  # fmt: skip
        lift = LIFTClassifier(folder, finetuner=tuner, random_state=0)
        lift.fit(X, y, X_val=X[-5:], y_val=y[-5:])
    except ValueError as error:
        return f"refused: {error}"
    history = lift.finetuner_.history_
    losses = [epoch[name] for epoch in history for name in ("loss", "val_loss")]
    return [*losses, *lift.predict_proba(X)[:, 0].tolist()]


def compared(alone, whole, spread):
    """Return what came of a family, in one process and in two of each kind."""
    if isinstance(alone, str):
        return "refused by one process, too"
    if isinstance(whole, str):
        return f"FAULT whole: {whole}"
    if isinstance(spread, str):
        known = "launched together (FSDP)" in spread
        return "whole, but not spread" if known else f"FAULT spread: {spread}"
    apart = [np.abs(np.subtract(one, spread)).max() for one in (alone, whole)]
    if apart[1] > _SAME:
        return f"FAULT whole and spread differ by {apart[1]:.1g}"
    return "as one process" if apart[0] <= _ROUNDING else "as two whole ones"


def run(families):
    """Return how often each outcome came."""
    with tempfile.TemporaryDirectory() as folder:
        folders = {}
        for number, family in enumerate(families):
            folders[family] = made(family, bytes_without_start(), f"{folder}/{number}")
        told = {}
        for kind in ("", "--multi_gpu", "--use_fsdp"):
            launch = [*_LAUNCH.split(), kind] if kind else []
            told[kind] = f"{folder}/told{kind}"
            command = [*launch, __file__, "--told", told[kind], *folders.values()]
            paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
            subprocess.run(
                [sys.executable, *command],
                check=True,
                env={**os.environ, "PYTHONPATH": paths, "TQDM_DISABLE": "1"},
            )
        read = []
        for kind, file in told.items():
            first = json.loads(Path(f"{file}0").read_text())
            if kind and first != json.loads(Path(f"{file}1").read_text()):
                return Counter([f"FAULT the processes of {kind} differ"])
            read.append(first)
    return Counter(compared(*each) for each in zip(*read, strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("families", nargs="*", help="all, if none is named")
    parser.add_argument("--told", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.told:
        warnings.simplefilter("ignore")
        process = os.environ.get("RANK", "0")
        outcomes = [learnt(folder) for folder in options.families]
        Path(f"{options.told}{process}").write_text(json.dumps(outcomes))
    else:
        found = run(options.families or FAMILIES)
        report(found, n_families=sum(found.values()))
