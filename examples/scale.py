"""Predict tables that don't fit, by engines that people have: a dozen lines for each.

    pip install 'dask[dataframe]' ray pyspark
    python examples/scale.py --engines parquet dask ray spark --rows 100000

An estimator is saved, and each process of an engine loads it once. Every engine writes
Parquet files from Parquet files, and its predictions are compared with those of one
process. A worker that fails is tried again by the engine, batch by batch; predictions
depend on a row alone, so nothing is lost or doubled by that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.datasets import make_classification

from liftlearn import FineTuner, LIFTClassifier, load

BATCH = 10_000


@cache
def loaded(folder: str) -> Any:
    """Return the estimator of a folder, loaded once in each process."""
    torch.set_num_threads(1)  # the engine's processes share the cores
    return load(folder)


def predicted(rows: pd.DataFrame, folder: str) -> pd.DataFrame:
    """Return rows with the probability of each class beside them."""
    estimator = loaded(folder)
    names = [f"p_{label}" for label in estimator.classes_]
    columns = list(estimator.feature_names_in_)
    found = estimator.predict_proba(rows[columns]) if len(rows) else np.empty((0, 2))
    return rows.assign(**dict(zip(names, found.T, strict=True)))


def by_parquet(source: Path, target: Path, folder: str) -> None:
    """Go through the file batch by batch, in constant memory and one process."""
    target.mkdir()
    writer = None
    for batch in pq.ParquetFile(source / "0.parquet").iter_batches(BATCH):
        table = pa.Table.from_pandas(predicted(batch.to_pandas(), folder))
        writer = writer or pq.ParquetWriter(target / "0.parquet", table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def by_dask(source: Path, target: Path, folder: str) -> None:
    """Let Dask map the table's partitions in processes."""
    import dask.dataframe as dd

    frame = dd.read_parquet(source).repartition(partition_size="1MB")
    meta = predicted(frame.head(1), folder).iloc[:0]
    done = frame.map_partitions(predicted, folder, meta=meta)
    done.to_parquet(target, compute_kwargs={"scheduler": "processes"})


class Predictor:
    """What each of Ray's actors keeps: a folder, and so an estimator."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return a batch with its predictions."""
        return predicted(rows, self.folder)


def by_ray(source: Path, target: Path, folder: str) -> None:
    """Let Ray map batches by actors that stay."""
    import ray

    done = ray.data.read_parquet(str(source)).map_batches(
        Predictor,
        fn_constructor_args=[folder],
        batch_format="pandas",
        batch_size=BATCH,
        concurrency=2,
        num_cpus=0.5,  # reading and writing need some, too
    )
    done.write_parquet(str(target))


def by_spark(source: Path, target: Path, folder: str) -> None:
    """Let Spark map the partitions, each an iterator of frames."""
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DoubleType, StructType

    spark = SparkSession.builder.master("local[2]").getOrCreate()
    spark.sparkContext.addPyFile(__file__)  # where its workers find `predicted`
    frame = spark.read.parquet(str(source)).repartition(4)
    schema = StructType(list(frame.schema))
    for label in loaded(folder).classes_:
        schema = schema.add(f"p_{label}", DoubleType())

    def mapped(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for rows in frames:
            yield predicted(rows, folder)

    frame.mapInPandas(mapped, schema).write.parquet(str(target))


ENGINES = {"parquet": by_parquet, "dask": by_dask, "ray": by_ray, "spark": by_spark}


def main() -> None:
    """Print rows a second of each engine, and whether its predictions are right."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=["dask"])
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, saved = Path(folder, "rows"), f"{folder}/saved"
        make(source, saved, options.rows)
        for engine in options.engines:
            target = Path(folder, engine)
            begin = time.perf_counter()
            ENGINES[engine](source, target, saved)
            seconds = time.perf_counter() - begin
            rate = options.rows / seconds
            error = compared(source, target, saved)
            print(f"| {engine} | {rate:,.0f} | {error:.0e} |", flush=True)


def make(source: Path, saved: str, n_rows: int) -> None:
    """Write a table of ten columns, and an estimator that has learnt some of it."""
    X, y = make_classification(n_rows, 10, random_state=0)
    table = pd.DataFrame(X.round(3), columns=[f"x{i}" for i in range(10)])
    tuner = FineTuner(max_steps=30, n_models=1)
    LIFTClassifier(n_shots=0, finetuner=tuner, random_state=0).fit(
        table[:500], y[:500]
    ).save(saved)
    source.mkdir()
    table.assign(row=np.arange(n_rows)).to_parquet(source / "0.parquet")


def compared(source: Path, target: Path, saved: str) -> float:
    """Return how far predictions are off at the most; inf where rows are."""
    done = pd.concat(map(pd.read_parquet, sorted(target.rglob("*.parquet"))))
    done = done.sort_values("row", ignore_index=True)
    rows = pd.read_parquet(source / "0.parquet")
    if not np.array_equal(done["row"], rows["row"]):
        return np.inf
    some = slice(None, None, max(1, len(rows) // 2000))
    own = predicted(rows[some], saved)[["p_0", "p_1"]]
    return float(abs(done[some][["p_0", "p_1"]].to_numpy() - own.to_numpy()).max())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import scale  # whose functions other processes find by name

    scale.main()
