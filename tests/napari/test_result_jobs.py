"""DICOM and Retest in the *Progression* widget: what can be pressed when, and that the same comes out as in a script."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.results.followed import Followed
from napari_medseq.viewer.results.sources import dicom_series, model_of, scan_to_retest
from tests.napari.helpers import Wait, docked
from tests.unit.io import dicoms

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]
DAYS = (date(2020, 1, 31), date(2020, 5, 4))


@pytest.fixture
def scanned(tmp_path: Path) -> Followed:
    """Two visits of DICOM with a lesion each, followed."""
    images, masks = [], []
    for day in DAYS:
        uids: dict[str, Any] = {"StudyInstanceUID": f"1.2.{day:%Y%m%d}", "SeriesInstanceUID": f"1.3.{day:%Y%m%d}"}
        for k in range(6):
            made = dicoms.dataset(
                dicoms.picture((16, 18), seed=k),
                (0, 0, 2.5 * k),
                InstanceNumber=k + 1,
                StudyDate=f"{day:%Y%m%d}",
                **uids,
            )
            dicoms.save(made, tmp_path / f"{day:%Y%m%d}" / f"{k}.dcm")
        (image,) = ms.read(tmp_path / f"{day:%Y%m%d}")
        data = np.zeros(image.data.shape, np.uint8)
        data[1:5, 3:10, 3:10] = 1
        images.append(image)
        masks.append(image.labels_like(data, name="tumour", label_names={1: "tumour"}))
    study = ms.Study("sub-x", tuple(ms.Visit(d, (i,), (), f"{d}") for d, i in zip(DAYS, images, strict=True)))
    return Followed(ms.track(masks, images=images, dates=list(DAYS)), study, places=list(range(len(DAYS))))


def recorded(found: Followed) -> None:
    """As a saved result that was opened again: it has no images, but names them."""
    found.progression.images[:] = [None] * len(DAYS)
    found.progression.provenance["inputs"] = [
        {"images": {"": {"name": visit.images[0].name}}} for visit in found.source.visits
    ]


def test_the_series_of_a_result_are_its_images_or_those_that_it_names(scanned: Followed) -> None:
    images = [visit.images[0] for visit in scanned.source.visits]
    assert all(a is b for a, b in zip(dicom_series(scanned), images, strict=True))
    scanned.progression.images[:] = [None, images[1]]
    with pytest.raises(MedseqError, match="visit 1 is not an open DICOM"):
        dicom_series(scanned)
    recorded(scanned)
    assert all(a is b for a, b in zip(dicom_series(scanned), images, strict=True))


def test_a_retest_needs_the_last_scan_and_the_model(scanned: Followed) -> None:
    with pytest.raises(MedseqError, match="images of visit 2"):
        scan_to_retest(scanned)
    with pytest.raises(MedseqError, match="No model made"):
        model_of(scanned)
    recorded(scanned)
    assert scan_to_retest(scanned) is scanned.source.visits[1].images[0]
    scanned.progression.provenance["model"] = {"name": "tiny"}
    assert model_of(scanned) == "tiny"
    facts: Any = scanned.progression.provenance["inputs"]
    facts[1]["images"]["T2"] = {"name": "not open"}
    with pytest.raises(MedseqError, match="images of visit 2"):
        scan_to_retest(scanned)


@pytest.mark.usefixtures("knows")
def test_retest_puts_the_smallest_real_change_into_the_table(
    viewer: Any, wait: Wait, ball_study: Path, bright_bundle: Path
) -> None:
    widget = docked(viewer, ProgressionWidget, wait)
    jobs = widget.jobs
    assert "no result" in jobs.retest_button.toolTip()
    assert not jobs.dicom_button.isEnabled()
    source = verbs.study_of(viewer)
    widget.show_result(ms.run(source, bright_bundle), source)
    assert "visit 1 is not an open DICOM series" in jobs.dicom_button.toolTip()
    assert not jobs.dicom_button.isEnabled()
    assert jobs.retest_button.isEnabled()
    settings = ms.RetestSettings(repeats=2, growths=(), own_growths=())
    columns = widget.result.table.columnCount()
    jobs.retest(settings)
    assert "runs" in jobs.retest_button.toolTip()
    wait(lambda: not widget.work.busy)
    found = widget.result.progression.repeatability
    scripted = ms.retest(ms.read_study(ball_study).visits[1].images[0], bright_bundle, settings=settings)
    assert found is not None
    assert found.lesions == scripted.lesions
    assert widget.result.table.columnCount() == columns + 2


def test_dicom_files_are_those_of_the_script(
    make_napari_viewer: Any, wait: Wait, scanned: Followed, tmp_path: Path, notices: list[tuple[str, str]]
) -> None:
    pytest.importorskip("highdicom")
    viewer = make_napari_viewer(show=False)
    verbs.add_study(viewer, scanned.source)
    widget = docked(viewer, ProgressionWidget, wait)
    widget.show_result(scanned.progression, scanned.source)
    assert widget.jobs.dicom_button.isEnabled()
    assert not widget.jobs.retest_button.isEnabled()
    widget.jobs.export_dicom(tmp_path / "out")
    wait(lambda: not widget.work.busy)
    scripted = scanned.progression.export_dicom(tmp_path / "scripted")
    here = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.dcm"))
    assert here == sorted(path.relative_to(tmp_path / "scripted") for path in scripted)
    assert any(f"{len(scripted)} DICOM files" in text for _, text in notices)
