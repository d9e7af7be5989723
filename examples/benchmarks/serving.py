"""Size and latency of a served model, beside gradient boosting.

Run

    python examples/benchmarks/serving.py

with ``fastapi`` and ``httpx`` installed. Each model learns the same rows of
scikit-learn's breast cancer table, ten columns of it, and is saved and loaded. It then
answers one row at a time, called directly, and as ``examples/serve.py`` serves it:
eight clients send one row after the other, read together or each alone. The server is
called within the process, so no time of a network is in it; during all of it any
connection to elsewhere fails. The peaks of memory are those of the whole process while
the first and the second half of the rows are read together.
"""

from __future__ import annotations

import argparse
import asyncio
import pickle
import socket
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split
from tables import forget_peak, peak

from liftlearn import FineTuner, LIFTClassifier, load

sys.path.append(str(Path(__file__).parents[1]))
from serve import application

N_CLIENTS = 8


def main() -> None:
    """Measure every model and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=50, help="of each client")
    parser.add_argument("--steps", type=int, help="of training; the default's else")
    options = parser.parse_args()
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X.iloc[:, :10], y, train_size=300, stratify=y, random_state=0
    )
    one = FineTuner(n_models=1, max_steps=options.steps or "auto")
    models = {
        "read in context": LIFTClassifier(random_state=0),
        "one fine-tuned member": LIFTClassifier(
            n_shots=0, finetuner=one, random_state=0
        ),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0),
    }
    socket.socket.connect = _refuse
    heads = [
        "model",
        "accuracy",
        "MB",
        "one row, ms",
        "served together: rows/s",
        "p50, ms",
    ]
    heads += ["p99, ms", "peak, MB: first half", "second half"]
    heads += ["served alone: rows/s", "p50, ms", "p99, ms"]
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for name, model in models.items():
        model.fit(X_train, y_train)
        served, megabytes = saved_and_loaded(model)
        cells = [f"{served.score(X_test, y_test):.3f}", f"{megabytes:.1f}"]
        cells.append(f"{1000 * seconds_a_row(served, X_test):.1f}")
        if isinstance(served, LIFTClassifier):
            rows = X_test.to_dict("records")
            for max_rows in (1024, 1):
                rate, times, peaks = asyncio.run(
                    clients(served, rows, max_rows, options.requests)
                )
                middle, late = 1000 * np.percentile(times, [50, 99])
                cells += [f"{rate:.0f}", f"{middle:.1f}", f"{late:.1f}"]
                cells += [f"{most:.0f}" for most in peaks if max_rows > 1]
        cells += [""] * (len(heads) - 1 - len(cells))
        print(f"| {' | '.join([name, *cells])} |", flush=True)


def saved_and_loaded(model: Any) -> tuple[Any, float]:
    """Return a model as it comes back from the disk, and the megabytes there."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        if isinstance(model, LIFTClassifier):
            model.save(path)
            sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
            return load(path), sum(sizes) / 1e6
        path.write_bytes(pickle.dumps(model))
        return pickle.loads(path.read_bytes()), path.stat().st_size / 1e6


def seconds_a_row(model: Any, X: pd.DataFrame) -> float:
    """Return the median time to predict one row."""
    times = []
    for number in range(100):
        row = X.iloc[[number]]
        started = time.perf_counter()
        model.predict_proba(row)
        times.append(time.perf_counter() - started)
    return float(np.median(times))


async def clients(
    model: LIFTClassifier, rows: list[dict[str, Any]], max_rows: int, n_requests: int
) -> tuple[float, list[float], list[float]]:
    """Return the rows answered a second, the time of each request, and two peaks."""
    app = application(model, max_rows)
    transport = httpx.ASGITransport(app)
    times: list[float] = []
    peaks: list[float] = []

    async def client(first: int) -> None:
        for number in range(n_requests):
            row = rows[(first + number) % len(rows)]
            sent = time.perf_counter()
            answer = await http.post("/predict", json={"rows": [row]})
            answer.raise_for_status()
            times.append(time.perf_counter() - sent)
            if len(times) == N_CLIENTS * n_requests // 2:
                peaks.append(peak())
                forget_peak()

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://served") as http,
    ):
        forget_peak()
        started = time.perf_counter()
        await asyncio.gather(*(client(10 * number) for number in range(N_CLIENTS)))
        seconds = time.perf_counter() - started
    return len(times) / seconds, times, [*peaks, peak()]


def _refuse(*_: Any) -> None:
    """Connect to nothing."""
    raise OSError("Nothing here may connect to elsewhere.")


if __name__ == "__main__":
    main()
