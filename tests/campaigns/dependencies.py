"""The suite with the lowest versions of all dependencies, or with the newest.

A virtual environment is made for it. From the folder ``tests``::

    python -m campaigns.dependencies lowest
    python -m campaigns.dependencies newest -- -m "not slow"

What stands behind ``--`` goes to pytest.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def lowest(project):
    """Return the lowest versions that a project declares, as pip's constraints."""
    declared = list(project["dependencies"])
    for extra in project.get("optional-dependencies", {}).values():
        declared += extra
    found = {}
    for requirement in declared:
        version = re.match(r"([\w-]+)(?:\[.*?\])?>=(\d+\.\d+)", requirement)
        if version:
            found[version[1]] = f"{version[1]}=={version[2]}"
    return sorted(found.values())


def main(which, arguments):
    """Install the versions asked for, show them, and run the suite."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        constraints = Path(folder, "constraints.txt")
        lines = lowest(project) if which == "lowest" else []
        constraints.write_text("\n".join(lines))
        install = [python, "-m", "pip", "install", "-q", "-c", str(constraints)]
        upgrade = [] if which == "lowest" else ["--upgrade"]
        target = f"{_ROOT}[test]"
        subprocess.run([*install, *upgrade, "-e", target], check=True)
        subprocess.run(
            [python, "-m", "pip", "freeze", "--exclude-editable"], check=True
        )
        tests = [python, "-m", "pytest", "-q", *arguments]
        return subprocess.run(tests, cwd=_ROOT, check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("which", choices=["lowest", "newest"])
    parser.add_argument("arguments", nargs="*", help="of pytest, behind --")
    options = parser.parse_args()
    sys.exit(main(options.which, options.arguments))
