"""The report: one file, nothing from elsewhere, every fact in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.progression import sentences
from napari_medseq.sequence import ImageSequence, affine_from


def mask(*boxes):
    data = np.zeros((12, 30, 34), np.uint8)
    for z0, z1, y0, y1, x0, x1 in boxes:
        data[z0:z1, y0:y1, x0:x1] = 1
    return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels", name="<T1 & post>")


A, B, BRIDGE = (2, 8, 2, 8, 2, 10), (2, 8, 2, 8, 14, 20), (3, 6, 3, 6, 10, 14)
C = (2, 8, 18, 24, 10, 16)
BIG_C = (2, 8, 18, 28, 10, 20)


@pytest.fixture
def progression():
    masks = [mask(A, B, C), mask(A, B, BRIDGE, BIG_C), mask(A)]
    images = [m.replace(kind="image", data=m.data * 100.0, name="T1", modality="MR") for m in masks]
    return ms.track(masks, dates=["2020-01-01", "2020-03-01", "2020-04-02"], images=images)


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_one_file_with_everything_in_it(progression, tmp_path):
    path = progression.report(
        tmp_path / "r.html", rules=["recist-1.1", "volumetric"], name="P <1>", card="# Card\n& more"
    )
    text = path.read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.links) == 4
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
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


def test_sentences_say_what_the_table_says(progression):
    said = {(visit, lesion): text for visit, lesion, text in sentences.events(progression)}
    rows = progression.lesions.query("visit > 0 and measured")
    assert set(said) == {(r.visit, r.lesion) for r in rows.itertuples()}
    for row in rows.itertuples():
        text = said[row.visit, row.lesion]
        word = {"growing": "grew", "shrinking": "shrank", "stable": "stable", "new": "new", "resolved": "no longer"}
        if row.event in word:
            assert word[row.event] in text
        if row.volume_ml > 0:
            assert f"{row.volume_ml:.2f} mL" in text
    assert "union of lesions 1 and" in " ".join(said.values())


def test_sentences_without_lesions_or_dates():
    nothing = ms.track([mask(), mask()])
    assert "No lesions" in " ".join(sentences.overall(nothing))
    assert "2 visits" in sentences.overall(nothing)[0]
    assert sentences.events(nothing) == []


def test_report_of_nothing_and_of_one_visit(tmp_path):
    for k, masks in enumerate(([mask(), mask()], [mask(A)])):
        assert ms.track(masks).report(tmp_path / f"{k}.html").stat().st_size > 1000


def test_a_folder_that_cannot_be_written_is_a_clear_error(progression, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ms.MedseqError, match="could not be written"):
        progression.report(tmp_path / "file" / "r.html")
