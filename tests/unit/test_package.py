"""What is published: metadata, citation, the README for the hub, workflows, and lists that are made from one source."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")


def bounds(requirements: list[str]) -> dict[str, str]:
    """Lower bound by name."""
    found = {}
    for requirement in requirements:
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[\w+\])?.*?>=\s*([\d.]+)", requirement)
        if match:
            found[match[1].lower().replace("_", "-")] = match[2]
    return found


def numbers(version: str) -> list[int]:
    parts = [int(n) for n in re.findall(r"\d+", version)][:3]
    return [*parts, *[0] * (3 - len(parts))]


@pytest.mark.parametrize(
    ("repository", "said"),
    [
        ("", "guide"),
        (
            "https://x.org/r",
            "![see](https://x.org/r/raw/HEAD/docs/a.png)\n[guide](https://x.org/r/blob/HEAD/docs/a.md)",
        ),
    ],
)
@pytest.mark.usefixtures("tools")
def test_the_readme_for_the_hub_has_no_relative_links(repository: str, said: str) -> None:
    absolute = importlib.import_module("hub_readme").absolute
    text = "![see](docs/a.png)\n[guide](docs/a.md) and [napari](https://napari.org)"
    assert absolute(text, repository) == f"{said} and [napari](https://napari.org)"
    readme = absolute((ROOT / "README.md").read_text(encoding="utf-8"), repository)
    assert [t for t in re.findall(r"\]\(([^)]+)\)", readme) if not t.startswith("https://")] == []


def test_the_readme_has_what_the_hub_shows() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    for wanted in ("What it does", "Who it is for", "Install", "First steps", "Scripting", "Limits", "Citation"):
        assert wanted in sections
    assert any(title.startswith("Models") for title in sections)
    if not PROJECT["urls"]:
        assert "Not yet published" in text


def test_the_citation_names_no_one_and_nothing_that_does_not_exist() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["authors"] == [{"name": PROJECT["authors"][0]["name"]}]
    assert citation["license"] == PROJECT["license"]
    assert not {"doi", "identifiers", "url", "repository-code", "contact"} & set(citation)


def test_workflows_name_every_action_by_its_commit_and_cover_the_promised_pythons() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")}
    assert {"test.yml", "nightly.yml", "release.yml"} <= set(texts)
    for text in texts.values():
        used = re.findall(r"uses: (\S+)", text)
        assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in used)
        assert yaml.safe_load(text)["permissions"] == {}
    jobs = yaml.safe_load(texts["test.yml"])["jobs"]
    parts = re.search(r"for part in \$\{\*:-(.+)\}; do", (ROOT / "tools" / "compat.sh").read_text(encoding="utf-8"))
    assert parts is not None
    assert set(jobs["compat"]["strategy"]["matrix"]["part"]) == set(parts[1].split())
    matrix = jobs["systems"]["strategy"]["matrix"]
    promised = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+", c)]
    assert matrix["python"] == promised
    assert len(matrix["os"]) == 3


def test_forms_ask_for_the_report_of_the_doctor() -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8"))
    fields = {f["id"]: f for f in form["body"] if "id" in f}
    assert "doctor --report" in fields["report"]["attributes"]["label"]
    assert "No patient data" in form["body"][0]["attributes"]["value"]


def test_the_oldest_versions_are_those_that_are_promised() -> None:
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    extras = PROJECT["optional-dependencies"]
    wanted = [r for extra in ("all", "baselines", "cluster", "evaluate", "parquet") for r in extras[extra]]
    promised = bounds([*PROJECT["dependencies"], *wanted])
    missing = set(promised) - set(pins) - {"torch"}
    assert missing == set(), "run: make lowest"
    older = [name for name, least in promised.items() if name in pins and numbers(pins[name]) < numbers(least)]
    assert older == []


@pytest.mark.usefixtures("tools")
def test_the_list_of_licences_names_every_dependency_of_the_base() -> None:
    licences = importlib.import_module("licences")
    page = (ROOT / "docs" / "reference" / "licences.md").read_text(encoding="utf-8")
    assert licences.refused() == []
    base = [name for name, extras in licences.needed().items() if "" in extras]
    assert len(base) > 20
    assert [name for name in base if f"| {name} |" not in page] == [], "run: make licences"


@pytest.mark.usefixtures("tools")
def test_the_conda_recipe_asks_for_what_the_package_asks_for() -> None:
    recipe = importlib.import_module("recipe")
    drafted = yaml.safe_load(recipe.RECIPE.read_text(encoding="utf-8"))["requirements"]["run"]
    assert set(map(recipe.requirement, PROJECT["dependencies"])) <= set(drafted), "run: python tools/recipe.py"


@pytest.mark.usefixtures("tools")
def test_the_readme_quotes_the_models_numbers_as_they_were_measured() -> None:
    numbers_ = importlib.import_module("model_numbers")
    assert numbers_.README.read_text(encoding="utf-8") == numbers_.text(), "run: python tools/model_numbers.py"
    assert all(line in numbers_.text() for line in numbers_.lines())
