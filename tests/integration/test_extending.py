"""The pages on extending the package: the example on each is installed as a package of its own, and does what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("add-a-step", "add-a-network", "add-a-response-rule", "add-a-format")
_FILE = re.compile(r'```\w+ title="([\w.]+)"\n(.*?)```', re.DOTALL)


def files_of(page: str) -> dict[str, str]:
    """The files that a page shows, by name."""
    return dict(_FILE.findall((ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the packages of all pages are installed, as a person would have them who read all pages."""
    folder = tmp_path_factory.mktemp("pages")
    target = folder / "packages"
    target.mkdir()
    made = []
    for page in PAGES:
        (folder / page).mkdir()
        files = files_of(page)
        for name, text in files.items():
            if name == "use.py":  # what a reader does with the package, no part of it
                continue
            (folder / page / name).write_text(text, encoding="utf-8")
        if "pyproject.toml" in files:
            made.append(str(folder / page))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(target), *made], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run(code: str, packages: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(packages), *(p for p in sys.path if p)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        cwd=packages,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES)
def test_the_example_of_a_page_works_as_a_package_of_its_own(page: str, packages: Path) -> None:
    done = run(files_of(page)["use.py"], packages)
    assert done.returncode == 0, done.stderr
    assert "PluginWarning" not in done.stderr


def test_a_package_that_fails_is_named_and_the_others_work(packages: Path, tmp_path: Path) -> None:
    faulty = Path(shutil.copytree(packages, tmp_path / "packages"))
    (points,) = faulty.glob("medseq_edges-*.dist-info/entry_points.txt")
    good = "edges = medseq_edges:Edges\n"
    assert good in points.read_text()
    wrong = "gone = medseq_edges:Gone\nodd = medseq_edges:ndimage\nn4 = medseq_edges:Edges\n"
    points.write_text(points.read_text().replace(good, good + wrong))
    code = "from napari_medseq.preprocessing import STEPS; print(*STEPS, STEPS['n4'].__module__)"
    done = run(code, faulty)
    assert done.returncode == 0, done.stderr
    listed = done.stdout.split()
    assert "edges" in listed
    assert {"gone", "odd"} & set(listed) == set()
    assert listed[-1] == "napari_medseq.preprocessing.bias"
    for name, reason in (("gone", "Gone"), ("odd", "not a subclass"), ("n4", "`kind` is not")):
        assert re.search(f"'{name}' of the package medseq-edges 1.0 .*{reason}", done.stderr), done.stderr
