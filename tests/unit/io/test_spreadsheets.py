"""Tables of paths as spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_medseq.errors import ReadError
from napari_medseq.io.spreadsheets import read_rows


@pytest.mark.parametrize(
    "text",
    [
        "study,name\na b,ä\n",
        "study;name\r\na b;ä\r\n",
        "sep=;\r\nstudy;name\r\na b;ä\r\n",
        "\r\n;;\r\nstudy ; name\r\n a b;ä;\r\n",
        "study\tname\ra b\tä\r",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_same_table_however_it_is_written(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert read_rows(tmp_path / "a.csv", error=ReadError) == [{"study": "a b", "name": "ä"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [("study,Study\na,b\n", "several columns called study"), ("study\na\nb,c\n", "row 2 has more cells")],
)
def test_cells_that_would_be_lost_are_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ReadError, match=message):
        read_rows(tmp_path / "a.csv", error=ReadError)
