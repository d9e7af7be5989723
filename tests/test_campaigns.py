"""The campaigns, each with a small budget, and what they have found."""

import os
import sys

import numpy as np
import pytest
from campaigns import dependencies, folders, kills, launched, long_run, sharing, tables

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # forks
]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has /proc")


def test_every_random_table_is_predicted_or_refused_in_words():
    found = tables.run(15)
    assert found["predicted"]
    assert found["drawn"]


@linux
def test_every_damaged_folder_is_refused_in_words_or_predicts():
    found = folders.run(60, 40)
    assert sum(found.values()) == 100
    assert not [outcome for outcome in found if "FAULT" in outcome]


@forks
def test_every_kill_leaves_a_whole_copy_or_is_resumed_to_the_same_bits():
    found = kills.run(8, n_pairs=2)
    assert sum(n for outcome, n in found.items() if outcome.startswith("fit")) == 8
    assert not [outcome for outcome in found if "FAULT" in outcome]


@forks
def test_threads_and_processes_that_share_do_what_one_would():
    found = sharing.run(1, backends=("threading",))
    assert len(found) == 6
    assert not [outcome for outcome in found if "FAULT" in outcome]


def test_processes_that_hold_shares_learn_what_whole_models_do():
    assert launched.run(["gpt2", "llama", "mbart", "bert"]) == {
        "as one process": 1,
        "as two whole ones": 1,  # it has dropout
        "whole, but not spread": 1,
        "refused by one process, too": 1,
    }


@linux
def test_nothing_grows_over_fits_and_rows():
    table = long_run.run(12, 1200, n_parts=4)
    grown = long_run.growth(table)
    assert table.index.tolist()[-1] == "rows to 1200"
    assert (grown["open files"] <= 0).all()
    assert (grown["MB"] < 0.2).all()
    assert np.isfinite(table).all(axis=None)


def test_the_lowest_versions_are_those_that_are_declared():
    project = {
        "dependencies": ["numpy>=2.4", "transformers>=5.23,<6", "tqdm"],
        "optional-dependencies": {"lora": ["peft>=0.21"], "more": ["dask[array]>=3.1"]},
    }
    assert dependencies.lowest(project) == [
        "dask==3.1",
        "numpy==2.4",
        "peft==0.21",
        "transformers==5.23",
    ]
