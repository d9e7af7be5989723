"""Engines that predict large tables, each run with its own package."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "scale.py"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["parquet", "dask", "ray", "pyspark"])
def test_an_engine_predicts_what_one_process_does(engine):
    if engine != "parquet" and find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed: pip install 'liftlearn[engines]'")
    name = engine.removeprefix("py")
    command = [sys.executable, str(SCRIPT), "--engines", name, "--rows", "700"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr[-2000:]
    [rate, error] = re.search(
        rf"\| {name} \| ([\d,]+) \| (\S+) \|", done.stdout
    ).groups()
    assert float(rate.replace(",", "")) > 0
    assert float(error) < 1e-9
