"""The notebook runs from top to bottom."""

import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


@pytest.mark.filterwarnings("ignore")  # of Jupyter
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=folder).execute()
    texts = [
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())
    ]
    (best,) = (text for text in texts if "best_run/report.html" in text)
    assert float(best.partition("accuracy ")[2].partition("%")[0]) > 97
    assert (tmp_path / "spirals_search" / "report.html").exists()


def test_its_outputs_are_committed_and_small():
    text = NOTEBOOK.read_text()
    assert text.count("image/png") == 2 and len(text) < 100_000
    assert '"output_type": "error"' not in text
