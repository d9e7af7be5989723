"""The site: ``python -m sphinx -W -b html docs docs/_build/html`` builds it."""

import re
import sys
from pathlib import Path

import liftlearn

sys.path.insert(0, str(Path(__file__).parent))  # gallery_order

project = "liftlearn"
author = "The liftlearn developers"
copyright = author
release = version = liftlearn.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "auto_examples/*.md5"]
templates_path = ["_templates"]
# The pages are those that GitHub shows: links to headings are by its rules.
myst_heading_anchors = 4
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
add_module_names = False
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"^(?!plot_)\w+\.py$",
    "nested_sections": False,
    "within_subsection_order": "gallery_order.FirstStepsFirst",
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "matplotlib_animations": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "liftlearn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
# Pages without pages below them need no list of these.
html_sidebars = {
    page: []
    for page in (
        "benchmarks",
        "changelog",
        "contributing",
        "design",
        "experiments",
        "families",
        "lift",
        "reliability",
        "when",
    )
}
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 5,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def link_as_here(app, docname, source):
    """Lead links that open a file in the repository to what the site has of it.

    A script of the gallery has a page. A markdown file outside of ``docs`` has none,
    and is offered as a file.
    """
    up = "../" * (docname.count("/") + 1)
    text = re.sub(
        r"\.\./examples/(plot_\w+)\.py\)", r"auto_examples/\1.rst)", source[0]
    )
    source[0] = re.sub(rf"\]\(({re.escape(up)}\w[^)#]*\.md)", r"](path:\1", text)


def skip_machinery(app, what, name, member, skip, options):
    """Leave out what scikit-learn's machinery adds, which links into its own site."""
    module = getattr(member, "__module__", None) or ""
    return module.startswith("sklearn.utils") or None


def unlink(app, what, name, obj, options, lines):
    """Keep the words of links into scikit-learn's site, of its own docstrings."""
    lines[:] = [re.sub(r":ref:`([^`<]+?) *<[^>]+>`", r"\1", line) for line in lines]


def setup(app):
    """Read pages, members and docstrings as the site shows them."""
    app.connect("source-read", link_as_here)
    app.connect("autodoc-skip-member", skip_machinery)
    app.connect("autodoc-process-docstring", unlink)
