"""Serve a saved estimator over HTTP, with requests that wait read together.

Fit and save a model, then serve its folder. The server reads no network:

    pip install fastapi uvicorn
    python examples/serve.py FOLDER --port 8000

It takes rows as JSON, a row being an object of its cells by column. A missing cell is
``null``, a date is text as ISO 8601 has it:

    curl localhost:8000/predict --json '{"rows": [{"age": 41, "city": "Bonn"}]}'

The answer has a ``prediction`` for each row, and its ``probabilities`` by class, or for
a number the ``interval`` that holds it with a probability of .9. ``/about`` names the
columns. Rows that the estimator refuses come back with status 422 and its words.

A language model reads many rows at once in hardly more time than one. While it reads,
requests wait, and then all that wait are read together, up to ``--rows`` of them.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from liftlearn import LIFTClassifier, load

Row = dict[str, Any]
Answers = list[dict[str, Any]]


class Request(BaseModel):
    """Rows to predict."""

    rows: list[Row] = Field(min_length=1)


def main() -> None:
    """Serve the folder of the command line."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="what an estimator's save wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--rows", type=int, default=1024, help="at most at once")
    options = parser.parse_args()
    uvicorn.run(
        application(load(options.folder), options.rows),
        host=options.host,
        port=options.port,
    )


def application(estimator: Any, max_rows: int = 1024) -> FastAPI:
    """Return the application that answers with an estimator's predictions.

    Parameters
    ----------
    estimator : LIFTClassifier or LIFTRegressor
        Fitted.
    max_rows : int, default=1024
        How many waiting rows are read together at most. A request of more is read
        alone.

    Returns
    -------
    application : fastapi.FastAPI
    """
    reader = Batches(estimator, max_rows)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        reading = asyncio.create_task(reader.run())
        yield
        reading.cancel()

    app = FastAPI(title="liftlearn", lifespan=lifespan)

    @app.get("/about")
    def about() -> dict[str, Any]:
        """Return the columns, and the classes if there are any."""
        about = {"columns": estimator.encoder_.column_kinds_}
        if isinstance(estimator, LIFTClassifier):
            about["classes"] = estimator.classes_.tolist()
        return about

    @app.post("/predict")
    async def predict(request: Request) -> Answers:
        """Return what is known of each row."""
        try:
            return await reader.read(request.rows)
        except (TypeError, ValueError) as refusal:
            raise HTTPException(422, str(refusal)) from None

    return app


class Batches:
    """Reads the rows of all requests that wait, together.

    Parameters
    ----------
    estimator : LIFTClassifier or LIFTRegressor
        Fitted.
    max_rows : int
        Read together at most.
    """

    def __init__(self, estimator: Any, max_rows: int) -> None:
        self.estimator = estimator
        self.columns = list(estimator.encoder_.column_kinds_)
        self.max_rows = max_rows
        self.waiting: asyncio.Queue[tuple[list[Row], asyncio.Future[Answers]]] = (
            asyncio.Queue()
        )

    async def read(self, rows: list[Row]) -> Answers:
        """Return the answers of a request's rows, once they are read."""
        for row in rows:
            # Beside another's rows a cell that is not sent would count as missing.
            if row.keys() != set(self.columns):
                raise ValueError(
                    f"A row needs the cells {self.columns}, null where one is missing. "
                    f"This one has {list(row)}."
                )
        answered: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        await self.waiting.put((rows, answered))
        return await answered

    async def run(self) -> None:
        """Answer requests until cancelled."""
        late = None
        while True:
            batch = [late or await self.waiting.get()]
            late, n_rows = None, len(batch[0][0])
            while not self.waiting.empty():
                late = self.waiting.get_nowait()
                n_rows += len(late[0])
                if n_rows > self.max_rows:
                    break
                batch.append(late)
                late = None
            await self._answer(batch)

    async def _answer(
        self, batch: list[tuple[list[Row], asyncio.Future[Answers]]]
    ) -> None:
        """Answer the requests of one batch."""
        try:
            answers = await asyncio.to_thread(
                self._predict, [row for rows, _ in batch for row in rows]
            )
        # Whatever a row makes an estimator raise, its client must hear, and the server
        # must go on with the others.
        except Exception as refusal:  # noqa: BLE001
            if len(batch) == 1:
                _settle(batch[0][1], refusal)
                return
            for request in batch:  # One refused request must not refuse the others.
                await self._answer([request])
            return
        for rows, answered in batch:
            _settle(answered, answers[: len(rows)])
            del answers[: len(rows)]

    def _predict(self, rows: list[Row]) -> Answers:
        """Return the answers of some rows."""
        table = pd.DataFrame(rows, columns=self.columns)
        if isinstance(self.estimator, LIFTClassifier):
            classes = self.estimator.classes_
            probabilities = self.estimator.predict_proba(table)
            labels = classes[probabilities.argmax(axis=1)].tolist()
            names = [str(label) for label in classes.tolist()]
            return [
                {
                    "prediction": label,
                    "probabilities": dict(zip(names, row, strict=True)),
                }
                for label, row in zip(labels, probabilities.tolist(), strict=True)
            ]
        numbers = self.estimator.predict(table).tolist()
        intervals = self.estimator.predict_interval(table, coverage=0.9).tolist()
        return [
            {"prediction": number, "interval": interval}
            for number, interval in zip(numbers, intervals, strict=True)
        ]


def _settle(answered: asyncio.Future[Answers], outcome: Answers | Exception) -> None:
    """Answer a request, unless its client has gone."""
    if answered.done():
        return
    if isinstance(outcome, Exception):
        answered.set_exception(outcome)
    else:
        answered.set_result(outcome)


if __name__ == "__main__":
    main()
