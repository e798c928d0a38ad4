"""The memory that the main job needs for a patient is said before it starts, and is about what it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.errors import MedseqWarning
from napari_medseq.inference.expected import expected_bytes
from napari_medseq.models.choosing import choose_images
from napari_medseq.peak import expected_peak
from napari_medseq.registration.linear import prepared_bytes
from napari_medseq.sequence import ImageSequence, Study, Visit

MEASURE = """
import json, sys, warnings
from pathlib import Path
import numpy as np, torch
import napari_medseq as ms
from napari_medseq.models.choosing import choose_images
from napari_medseq.peak import expected_peak
from napari_medseq.registration.alignment import visits
from napari_medseq.sequence import ImageSequence, Study, Visit
from scipy.ndimage import zoom

warnings.simplefilter("ignore")
torch.set_num_threads(1)
model = ms.load_model(sys.argv[1])

def status(field):
    return next(int(x.split()[1]) * 1024 for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))

def study(shape):
    blobs = np.random.default_rng(0).normal(size=(6, 6, 6))
    found = []
    for number in range(2):
        data = (100 * zoom(blobs + 0.1 * number * blobs[::-1], [n / 6 for n in shape], order=1)).astype(np.int16)
        image = ImageSequence(data, ("z", "y", "x"), np.diag([1.0, 1.0, 1.0, 1.0]), modality="MR", name=f"{number}_T1post")
        found.append(Visit(None, (image,), (), f"v{number}"))
    return Study("s", tuple(found))

def taken(job):
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    job()
    return status("VmHWM") - before

def align(one):
    visits([v.images[0] for v in one.visits])

def follow(one):
    masks = []
    for visit in one.visits:
        data = np.zeros(visit.images[0].data.shape, np.uint8)
        for k in range(1, 5):
            at = [n * k // 5 for n in data.shape]
            data[tuple(slice(a, a + n // 12) for a, n in zip(at, data.shape))] = 1
        masks.append(visit.images[0].labels_like(data, name="m", label_names={1: "l"}))
    ms.track(masks, images=[v.images[0] for v in one.visits]).labels

small, large = study((24, 48, 48)), study((128, 256, 256))
align(small)
follow(small)  # libraries are loaded and their threads started
said = expected_peak(large.visits, choose_images(large, model.info), model, register="auto")
masks = said.masks
print(json.dumps({
    "registration": [said.registration, taken(lambda: align(large))],
    "following": [said.following + masks, taken(lambda: follow(large))],
}))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the highest memory is asked of Linux")
def test_what_is_said_is_about_what_is_taken(tiny_bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tiny_bundle)], capture_output=True, text=True, check=True, timeout=250
    )
    for what, (said, taken) in json.loads(done.stdout.splitlines()[-1]).items():
        assert 0.6 * taken < said < 3 * taken + (32 << 20), (what, said, taken)


def visits(shape: tuple[int, int, int], number: int = 2) -> list[Visit]:
    """Visits whose voxels are promised and nowhere."""
    data = np.lib.stride_tricks.as_strided(np.zeros(1, np.int16), shape, (0, 0, 0))
    images = [
        ImageSequence(data, ("z", "y", "x"), np.diag([1.0, 1.0, 1.0, 1.0]), modality="MR", name=f"{k}_T1post")
        for k in range(number)
    ]
    return [Visit(None, (image,), (), image.name) for image in images]


def test_it_grows_with_the_images_and_without_registration_it_is_less(tiny_bundle: Path) -> None:
    model = ms.load_model(tiny_bundle)

    def said(shape: tuple[int, int, int], register: str = "auto", number: int = 2) -> int:
        found = visits(shape, number)
        return expected_peak(found, choose_images(Study("s", tuple(found)), model.info), model, register=register).whole

    large = said((600, 512, 512))
    assert 2e9 < large < 4e9  # of 512×512×600 at two visits, in which registration alone took 3.6 GB once
    assert said((600, 512, 512), "none") < large
    assert said((300, 512, 512)) < 0.6 * large
    assert said((600, 512, 512), number=1) < large
    assert prepared_bytes(*[v.images[0] for v in visits((600, 512, 512))]) < 2e9


def test_a_slab_network_of_many_classes_is_said_to_fit_as_it_does() -> None:
    from slab_memory import model

    (visit,) = visits((600, 512, 512), 1)
    said = expected_bytes([visit.images[0].replace(modality="CT")], model(20, (16, 256, 256)))
    taken = json.loads((Path(__file__).parents[2] / "docs" / "benchmarks" / "slab_memory.json").read_text())
    assert 0.6 < said / 2**30 / (taken["gib_most"] - taken["gib_before"]) < 1.7


def test_want_of_memory_is_said_before_the_patient_is_started(
    ball_study: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_medseq.peak.WORTH_SAYING", 0)
    monkeypatch.setattr("napari_medseq.memory.available_bytes", lambda: 1000)
    told: list[str] = []
    with pytest.warns(MedseqWarning, match=r"of memory are needed.*preprocess\)"):
        found = ms.run(
            ball_study, tiny_bundle, register="none",
            progress=lambda *at: told.append(at[2]),
        )  # fmt: skip
    assert any("of memory are needed" in w for w in found.warnings)


def test_a_dry_run_says_what_a_patient_needs(
    ball_study: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)  # the base installation does not have it
    call = ["cohort", str(ball_study), "-m", str(tiny_bundle), "--dry-run", "-o", str(tmp_path / "out")]
    assert cli.main([*call, "--json"]) == 0
    assert 1.5 < json.loads(capsys.readouterr().out)["peak_gb"] < 1.7
    assert cli.main(call) == 0
    assert "memory that a patient takes at most: about 1.5 GB" in capsys.readouterr().out
    monkeypatch.setattr("napari_medseq.memory.available_bytes", lambda: None)
    assert cli.main(call) == 0
    assert "what is free is unknown" in capsys.readouterr().out
