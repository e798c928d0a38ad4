"""YAML and JSON of others: plain values, or one error that says what is wrong."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq import yaml_text
from napari_medseq.errors import ModelError, SettingsError
from napari_medseq.yaml_text import parse_values, read_settings, read_values

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(PLAIN)
def test_what_yaml_writes_is_read(value: object) -> None:
    assert parse_values(yaml.safe_dump(value), where="it") == value


@pytest.mark.parametrize(
    "text",
    ["[" * 3000, "a: [" * 2000, "- " * 3000, "!!bool x", "!!int ''", "!!float x", "!!timestamp x", "!!python/name:os.system", "? [a]\n: 1",
     "9" * 5000, "a: &a [1]\nb: *a", "<<: 1", "\0", "a: b: c", "!!binary x"],
)  # fmt: skip
def test_what_cannot_be_read_is_one_error(text: str) -> None:
    with pytest.raises(SettingsError, match="it cannot be read as YAML"):
        parse_values(text, where="it")


def test_a_date_stays_text() -> None:
    for text in ("2020-02-03", "2020-99-99"):
        assert parse_values(text, where="it") == text
    assert yaml.safe_load("2020-02-03") == date(2020, 2, 3)


def test_files_are_bounded_and_endings_count(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{\n\t"a": 1}')  # YAML knows no tabs there
    assert read_values(path) == {"a": 1}
    path.write_text("a: 1")
    with pytest.raises(SettingsError, match=r"a.json cannot be read as YAML or JSON: JSONDecodeError"):
        read_values(path)
    (tmp_path / "a.yaml").write_text("#" * (yaml_text.LARGEST + 1))
    with pytest.raises(ModelError, match="larger than 256 KiB"):
        read_values(tmp_path / "a.yaml", error=ModelError)
    with pytest.raises(SettingsError, match="is not a file"):
        read_values(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UnicodeDecodeError"):
        read_values(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", "a: 1\nb:\n  c: 2\n  c: 3\n"), ("a.json", '{"b": {"c": 2, "c": 3}}')]
)
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match="it says c twice"):
        read_settings(tmp_path / name)


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "a: 1"), ("a.json", '{"a": 1}')])
def test_a_mark_of_the_encoding_does_no_harm(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_settings(tmp_path / name) == {"a": 1}
