"""The tables that other packages may add to: own entries first, others loaded when needed, failures named."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_medseq.plugins import PluginWarning, Table, offered

GROUP = "napari_medseq.steps"


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, entries: str) -> None:
    """A package on the path whose metadata has these entry points."""
    metadata = folder / "toy-3.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 3.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}\n")
    (folder / "toy_of_plugins.py").write_text("value = 42\ntext = 'no number'\n")
    monkeypatch.syspath_prepend(folder)


def number(_: str, value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("it is not a number")
    return value


def test_own_entries_need_no_other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, "broken = toy_of_plugins:missing")
    table = Table(GROUP, "number", {"one": 1}, number)
    assert table["one"] == 1
    with pytest.warns(PluginWarning, match=r"number 'broken' of the package toy 3\.0"):
        assert list(table) == ["one"]


def test_what_is_offered_comes_after_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, "many = toy_of_plugins:value")
    table = Table(GROUP, "number", {"one": 1}, number)
    assert dict(table) == {"one": 1, "many": 42}
    assert "few" not in table
    table["few"] = 3
    assert table["few"] == 3
    del table["few"]
    assert len(table) == 2
    assert offered()[GROUP]["many"] == "toy 3.0"


def test_another_package_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, "one = toy_of_plugins:value")
    table = Table(GROUP, "number", {"one": 1}, number)
    assert table.entered("one") == 1
    with pytest.warns(PluginWarning, match="there is one of that name already"):
        assert dict(table) == {"one": 1}


def test_what_cannot_be_used_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, "text = toy_of_plugins:text")
    table = Table(GROUP, "number", {}, number)
    with pytest.warns(PluginWarning, match="it is not a number. Update that package, or uninstall it.") as said:
        assert [len(table), len(table)] == [0, 0]
    # the package's own step is not a number either, where its metadata is installed
    assert len([w for w in said if "'text'" in str(w.message)]) == 1
