"""Peak memory of loading, fine-tuning and predicting with models of many weights.

    python examples/benchmarks/memory.py [--sizes 0.1 0.5 1] [--page memory.md]

Llamas with random weights, saved in bf16, are loaded, tuned through the default adapter
for 20 steps on 40 rows of five columns, and predict as many. Each has a process of its
own. Its peak is that of the memory that is its own, every few milliseconds, and of the
weights where they are read in the pages of their file; other pages of files the system
may drop. What it holds before, libraries and all, is subtracted. Where there is a GPU,
its allocator's peak is taken instead.

What there is to hold is counted from tensors as torch makes and frees them: the
weights, the adapter with its gradient and the optimizer's two moments, and the
activations of the largest pass. The share is the peak over that. Linux alone.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Self

import pandas as pd
import torch
from numpy.random import RandomState
from tables import as_markdown
from transformers import AutoModelForCausalLM, LlamaConfig

from liftlearn import FineTuner, LanguageModel, LIFTClassifier
from liftlearn._finetuner._cost import PeakMemory, bytes_of

# Billions of weights: width, width within a layer, layers.
SIZES = {
    "0.1": (768, 2048, 12),
    "0.5": (1536, 4096, 17),
    "1": (2048, 5632, 20),
    "8": (4096, 14336, 36),
}
N_ROWS, N_STEPS = 40, 20
GB = 1e9


def main() -> None:
    """Print a table, a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sizes = list(SIZES)
    parser.add_argument("--sizes", nargs="+", choices=sizes, default=sizes[:3])
    parser.add_argument("--dtypes", nargs="+", default=["auto"])
    parser.add_argument("--steps", type=int, default=N_STEPS)
    parser.add_argument("--page", type=Path, help="a Markdown file of the table")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.one:
        folder, dtype = options.one
        print(json.dumps(measure(folder, dtype, options.steps)))
        return
    lines = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            save_llama(folder, *SIZES[size])
            for dtype in options.dtypes:
                measured = in_own_process(folder, dtype, options.steps)
                lines.append({"billions": size, **measured})
                print(lines[-1], flush=True)
    page = as_markdown(lines)
    print("", page, sep="\n")
    if options.page:
        options.page.write_text(page + "\n", encoding="utf-8")


def save_llama(folder: str, width: int, inner: int, n_layers: int) -> None:
    """Write a Llama of random bf16 weights, with the embedded model's tokenizer."""
    tokenizer = LanguageModel.load().tokenizer
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=n_layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def in_own_process(folder: str, dtype: str, n_steps: int) -> dict[str, float | str]:
    """Return what one model took, measured in a process of its own."""
    command = [sys.executable, __file__, "--one", folder, dtype, "--steps"]
    done = subprocess.run(
        [*command, str(n_steps)], stdout=subprocess.PIPE, text=True, check=True
    )
    measured: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(folder: str, dtype: str, n_steps: int) -> dict[str, float | str]:
    """Return the GB that one model takes, and what there is to hold."""
    rng = RandomState(0)
    X = pd.DataFrame(rng.normal(size=(N_ROWS, 5)).round(2), columns=list("abcde"))
    y = (X["a"] > 0).map({True: "yes", False: "no"})
    tuner = FineTuner(max_steps=1, adapter=LanguageModel.load().default_adapter())
    LIFTClassifier(n_shots=0, finetuner=tuner).fit(X, y).predict(X)  # imports the rest
    before = settled()

    with Peak() as loading:
        lm = LanguageModel.load(folder, dtype=dtype)
    weights = bytes_of(lm.model)
    in_pages = weights if settled() - before < weights / 2 else 0
    tuner = FineTuner(max_steps=n_steps)
    classifier = LIFTClassifier(folder, dtype=dtype, finetuner=tuner)
    with Peak() as fitting, PeakMemory() as made:
        classifier.fit(X, y)
    adapter = sum(
        weight.nbytes
        for name, weight in classifier.language_model_.model.named_parameters()
        if "lora_" in name
    )
    with Peak() as predicting, PeakMemory() as read:
        classifier.predict_proba(X)
    loaded, fitted, predicted = (
        part.most - before + in_pages for part in (loading, fitting, predicting)
    )
    return {
        "kept in": lm.dtype,
        "weights, GB": weights / GB,
        "adapter and optimizer, GB": 4 * adapter / GB,
        "activations, GB": (made.most - 4 * adapter) / GB,
        "load, GB": loaded / GB,
        "share at load": loaded / weights,
        "fit, GB": fitted / GB,
        "share at fit": fitted / (weights + made.most),
        "predict, GB": predicted / GB,
        "share at predict": predicted / (weights + adapter + read.most),
        "load, s": loading.seconds,
        "fit, s": fitting.seconds,
        "predict, s": predicting.seconds,
    }


class Peak:
    """The most memory of the process's own, in bytes, and seconds, while entered."""

    def __enter__(self) -> Self:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.most = settled()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._begin
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.003):
            self.most = max(self.most, own_bytes())


def settled() -> int:
    """Return the process's own memory, after giving back what is free."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return own_bytes()


def own_bytes() -> int:
    """Return the bytes that are resident and no file's, or a GPU's peak."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * resource.getpagesize()


if __name__ == "__main__":
    main()
