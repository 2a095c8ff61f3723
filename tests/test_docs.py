"""The documents: links lead somewhere, and Python examples run."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")])
_LINK = re.compile(r"\]\(([^)\s#]*)(#[^)\s]*)?\)")


def anchors(path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in _LINK.findall(page.read_text()):
        if target.startswith("http"):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor[1:] in anchors(file), f"{page.name}: {target}{anchor}"


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        pytest.param("docs/python.md", marks=pytest.mark.slow),
        pytest.param("docs/own_parts.md", marks=pytest.mark.slow),
    ],
)
def test_python_examples_run(name, tmp_path):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE
    )
    assert blocks
    (tmp_path / "example.py").write_text("\n".join(blocks))
    command = [sys.executable, "example.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


def test_the_additions_that_contributors_read_still_apply():
    diffs = re.findall(
        r"^```diff\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(diffs) >= 5
    for diff in diffs:
        done = subprocess.run(
            ["git", "apply", "--check", "-"], input=diff, cwd=ROOT, text=True, capture_output=True
        )
        assert done.returncode == 0, f"{done.stderr}\n{diff}"
