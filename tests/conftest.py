"""Settings of every test, and models that many of them load."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings
from tiny import saved_gpt2, saved_llama

from liftlearn import LanguageModel

# The same examples everywhere, however slowly they are drawn.
settings.register_profile(
    "the same everywhere",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("the same everywhere")
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread each, also of what tests start
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory):
    return saved_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    return saved_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def gpt2(gpt2_folder):
    return LanguageModel.load(gpt2_folder)  # it has dropout


@pytest.fixture
def llama(llama_folder):
    return LanguageModel.load(llama_folder)
