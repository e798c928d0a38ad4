"""The report: one file, nothing from elsewhere, every fact in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.progression import sentences
from napari_medseq.progression.response.common import number
from napari_medseq.sequence import ImageSequence, affine_from
from tests.narrowing import some
from tests.unit.progression.masks import Box


def mask(*boxes: Box) -> ImageSequence:
    data = np.zeros((12, 30, 34), np.uint8)
    for z0, z1, y0, y1, x0, x1 in boxes:
        data[z0:z1, y0:y1, x0:x1] = 1
    return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels", name="<T1 & post>")


A, B, BRIDGE = (2, 8, 2, 8, 2, 10), (2, 8, 2, 8, 14, 20), (3, 6, 3, 6, 10, 14)
C = (2, 8, 18, 24, 10, 16)
BIG_C = (2, 8, 18, 28, 10, 20)


@pytest.fixture
def progression() -> ms.Progression:
    masks = [mask(A, B, C), mask(A, B, BRIDGE, BIG_C), mask(A)]
    images = [m.replace(kind="image", data=m.data * 100.0, name="T1", modality="MR") for m in masks]
    return ms.track(masks, dates=["2020-01-01", "2020-03-01", "2020-04-02"], images=images)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str | None] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_file_with_everything_in_it(progression: ms.Progression, tmp_path: Path) -> None:
    path = progression.report(
        tmp_path / "r.html", rules=["recist-1.1", "volumetric"], name="P <1>", card="# Card\n& more"
    )
    text = path.read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.links) == 5
    assert all(some(link).startswith("data:image/png;base64,") for link in reader.links)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    for fact in (
        "2020-03-01",
        "P &lt;1&gt;",
        "not a medical device",
        "Eisenhauer",
        "union of lesions",
        "&amp; more",
        '"connectivity": 26',
    ):
        assert fact in text or fact.replace('"', "&quot;") in text
    assert list(tmp_path.iterdir()) == [path]


def test_the_response_is_spelled_out_with_reasons(progression: ms.Progression, tmp_path: Path) -> None:
    text = progression.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Response: volumetric thresholds" in text  # without being asked for
    assert "noise bound" in text
    text = progression.report(tmp_path / "r.html", rules=["recist-1.1"]).read_text(encoding="utf-8")
    assert "Response: RECIST 1.1" in text
    categories = re.findall(r"<h3>Visit \d of \d \(\d{4}-\d\d-\d\d\): (.*?)</h3>", text)
    assert categories
    assert not {"CR", "PR", "SD", "PD", "NE"} & set(categories)
    assert "volumetric thresholds" not in text
    # columns for people, numbers without powers of ten
    assert "<th>volume (mL)</th>" in text
    assert not re.search(r"\d e[+]\d|\de[+]\d", re.sub(r"base64,[^\"]*", "", text))


def test_numbers_in_reasons_are_never_powers_of_ten() -> None:
    assert [number(v) for v in (1224.4, 12.345, 0.01234, -98765.0, 0.0)] == ["1224", "12.3", "0.0123", "-98765", "0"]


def test_the_command_draws_the_outlines_on_the_images_of_the_run(
    progression: ms.Progression, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = []
    for visit, image in enumerate(progression.images):
        source = ms.write(some(image), tmp_path / f"T1_{visit}.nii.gz")
        inputs.append({"images": {"image": {"name": f"T1_{visit}", "source": str(source)}}})
    progression.save(tmp_path / "out", extra={"inputs": inputs, "model": {"name": "brain-tumor"}})
    plain = ms.Progression.load(tmp_path / "out").report(tmp_path / "plain.html").read_text(encoding="utf-8")
    assert cli.main(["report", str(tmp_path / "out"), "--rule", "rano-2.0", "--name", "P1"]) == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    first = [some(re.search(r"base64,([^\"]*)", t)).group(1) for t in (plain, text)]
    assert first[0] != first[1]
    assert "Response: RANO 2.0" in text
    assert "Progression of P1" in text
    assert "# brain-tumor" in text
    # without the images the report is still written
    for visit in range(3):
        (tmp_path / f"T1_{visit}.nii.gz").unlink()
    assert cli.main(["report", str(tmp_path / "out")]) == 0
    assert "report.html" in capsys.readouterr().out


def test_sentences_say_what_the_table_says(progression: ms.Progression) -> None:
    said = {(visit, lesion): text for visit, lesion, text in sentences.events(progression)}
    rows = progression.lesions.query("visit > 0 and measured")
    assert set(said) == {(r.visit, r.lesion) for r in rows.itertuples()}
    row: Any
    for row in rows.itertuples():
        text = said[row.visit, row.lesion]
        word = {"growing": "grew", "shrinking": "shrank", "stable": "stable", "new": "new", "resolved": "no longer"}
        if row.event in word:
            assert word[row.event] in text
        if row.volume_ml > 0:
            assert f"{row.volume_ml:.2f} mL" in text
    assert "union of lesions 1 and" in " ".join(said.values())


def test_sentences_without_lesions_or_dates() -> None:
    nothing = ms.track([mask(), mask()])
    assert "No lesions" in " ".join(sentences.overall(nothing))
    assert "2 visits" in sentences.overall(nothing)[0]
    assert sentences.events(nothing) == []


def test_report_of_nothing_and_of_one_visit(tmp_path: Path) -> None:
    for k, masks in enumerate(([mask(), mask()], [mask(A)])):
        assert ms.track(masks).report(tmp_path / f"{k}.html").stat().st_size > 1000


def test_a_folder_that_cannot_be_written_is_a_clear_error(progression: ms.Progression, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ms.MedseqError, match="could not be written"):
        progression.report(tmp_path / "file" / "r.html")


def test_a_doubling_time_without_an_upper_end_is_so_long_or_more() -> None:
    row = {
        "lesion": 1, "parents": "1", "event": "growing", "certainty": 1.0, "volume_ml": 2.0, "change_percent": 30.0,
        "change_bound_ml": 0.4, "doubling_time_days": 200.0, "doubling_low_days": 120.0, "doubling_high_days": np.inf,
        "spread_direction": "", "shift_direction": "",
    }  # fmt: skip
    assert "Doubling time 200 days (95 % interval 120 or more)." in sentences.sentence(row)
