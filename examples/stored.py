"""Figures that take long to measure are stored, with the command that makes them.

A page asks for its figures by ``stored(name, measure)``. They come from
``results/NAME.csv`` beside this file, whose first line tells command and commit. Run a
page with ``LIFTLEARN_REFRESH=1`` to measure and store them again.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent / "results"


def stored(name: str, measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return a page's figures, and print where they come from.

    Parameters
    ----------
    name : str
        The page's name without ``plot_``, such as ``"wrong_labels"``.
    measure : callable
        Makes the figures, if ``LIFTLEARN_REFRESH`` is set.

    Returns
    -------
    figures : DataFrame
    """
    path = RESULTS / f"{name}.csv"
    if os.environ.get("LIFTLEARN_REFRESH"):
        commit = _git("describe", "--always")
        # Figures of other pages, measured just now, make no other code.
        if _git(
            "status", "--porcelain", "-uno", "--", ":(top,exclude)examples/results"
        ):
            commit += "-dirty"
        source = (
            f"LIFTLEARN_REFRESH=1 python examples/plot_{name}.py at commit {commit}"
        )
        figures = measure().to_csv(index=False)
        RESULTS.mkdir(exist_ok=True)
        path.write_text(f"# {source}\n{figures}", encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        print("Measured by", file.readline().removeprefix("# ").strip())
    return pd.read_csv(path, skiprows=1)


def _git(*arguments: str) -> str:
    """Return what a command of git prints."""
    command = ["git", "-C", str(RESULTS.parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()
