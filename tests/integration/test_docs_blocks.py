"""Every Python example on a page is run, with the files and names that the page takes for granted.

Pages whose examples are complete in themselves are run by `tests/unit/test_docs.py`, `tests/integration/test_extending.py` and, the
tutorials, by `tools/walk_tutorials.py`; those that are neither there nor here are found by a test below. Numbers that only say how long to
go on (minutes, repeats) are made small.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as view
from napari_medseq.sequence import affine_from
from napari_medseq.synthetic import make_study, sample_study

ROOT = Path(__file__).parents[2]
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
Names = dict[str, Any]


class Grid(TypedDict):
    """Voxels and millimetres of a study."""

    shape_zyx: tuple[int, int, int]
    spacing_zyx: tuple[float, float, float]


#: the head that `make_study` makes, in a quarter of the voxels
COARSE: Grid = {"shape_zyx": (24, 96, 80), "spacing_zyx": (6.5, 2.2, 2.2)}
pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning", "ignore::UserWarning")


def codes(page: str) -> list[str]:
    """The Python blocks of a page."""
    return _CODE.findall((ROOT / page).read_text(encoding="utf-8"))


def run(page: str, names: Names, *, shorter: dict[str, str] | None = None, only: int | None = None) -> Names:
    """Run the blocks of a page one after the other; `shorter` replaces what only says how long."""
    for number, code in enumerate(codes(page)):
        if only is not None and number != only:
            continue
        for long, short in (shorter or {}).items():
            code = code.replace(long, short)
        exec(compile(code, f"{page}, block {number + 1}", "exec"), names)
    return names


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path / "models-of-mine"))
    return tmp_path


@pytest.fixture
def scan(here: Path) -> Names:
    """A scan, and the mask in which three slices are painted, as names and as files."""
    visit = make_study().visits[0]
    image, truth = visit.images[0], visit.labels[0]
    slices = np.zeros_like(truth.data)
    slices[[9, 13, 17]] = truth.data[[9, 13, 17]]
    painted = truth.replace(data=slices)
    for name in ("scan.nii.gz", "ses-20200131/T1post.nii.gz"):
        ms.write(image, here / name)
    for name in ("painted.nii.gz", "painted_labels.nii.gz"):
        ms.write(painted, here / name)
    return {"image": image, "painted": painted, "ms": ms, "plane": np.asarray(image.data[13], dtype=float)}


def write_study(folder: Path) -> None:
    """Three visits of the coarse head and their masks."""
    for visit in make_study(**COARSE).visits:
        ms.write(visit.images[0], folder / str(visit.date) / "T1post.nii.gz")
        ms.write(visit.labels[0], folder / str(visit.date) / "T1post_tumor.nii.gz")


@pytest.fixture
def viewer(here: Path) -> tuple[ViewerModel, Any]:
    """A viewer with a study of three visits and their masks, and its folder."""
    write_study(here / "study" / "sub-01")
    model = ViewerModel()
    view.open_path(model, here / "study" / "sub-01")
    return model, here


def balls(count: int) -> ms.ImageSequence:
    """Lesions far apart, the largest first; the second of two parts."""
    data = np.zeros((12, 24, 30 * count), np.uint8)
    for k in range(count):
        data[2 : 9 - k // 4, 4 : 18 - k, 30 * k + 2 : 30 * k + 12] = 1
    data[2:8, 4:16, 30 + 18 : 30 + 22] = 1
    data[2:8, 10, 30 + 12 : 30 + 18] = 1
    return ms.ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 2)), kind="labels", name="mask")


#: pages whose Python blocks are run elsewhere
ELSEWHERE = {
    "docs/reference/axes-affine-units.md", "docs/how-to/coming-from.md", "docs/how-to/preprocess.md", "docs/how-to/add-a-step.md",
    "docs/how-to/add-a-network.md", "docs/how-to/add-a-response-rule.md", "docs/how-to/add-a-format.md",
    "docs/tutorials/first-study.md", "docs/tutorials/annotate.md", "docs/tutorials/train-from-a-folder.md",
    "docs/tutorials/hundred-patients.md",
}  # fmt: skip


def test_no_page_with_an_example_is_forgotten() -> None:
    pages = [
        p for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if not p.is_relative_to(ROOT / "docs/gallery")
    ]
    have = {p.relative_to(ROOT).as_posix() for p in pages if _CODE.search(p.read_text(encoding="utf-8"))}
    source = Path(__file__).read_text(encoding="utf-8")
    assert sorted(page for page in have - ELSEWHERE if not re.search(rf'run\(\s*"{page}"', source)) == []


def test_layers_of_recurrent_networks() -> None:
    names = run("docs/explanation/models.md", {})
    assert tuple(names["out"].shape) == (2, 5, 32, 32, 32)


@pytest.mark.slow
def test_readme(scan: Names, here: Path) -> None:
    sample_study(here / "study")
    names = run("README.md", scan)
    assert (here / "result" / "run.json").is_file()
    assert (here / "progression.png").is_file()
    assert names["found"].next_step is not None


@pytest.mark.slow
def test_where_a_model_runs(scan: Names) -> None:
    # the same call with the device that is here; a worker of a cluster is tried by tests/integration/inference
    names = run("docs/how-to/devices.md", scan, shorter={"dask://gpu-server:8786": "cpu"})
    assert names["result"].labels.same_grid(names["image"])


@pytest.mark.slow
def test_looking_into_a_model(scan: Names, here: Path) -> None:
    pytest.importorskip("onnxscript")
    names = run("docs/how-to/explain.md", scan)
    assert names["result"].uncertainty is not None
    for written in ("seen.nii.gz", "small/models/model.safetensors", "brain-tumor.onnx", "brain-tumor.pt2"):
        assert (here / written).is_file()


@pytest.mark.slow
def test_propagating(scan: Names, here: Path) -> None:
    names = run(
        "docs/how-to/propagate.md",
        scan,
        shorter={'"start_from": "propagate"': '"start_from": "propagate", "minutes": 0.2'},
    )
    assert names["found"].labels.same_grid(names["image"])
    assert names["mask"].shape == names["plane"].shape
    assert (here / "all_labels.nii.gz").is_file()


@pytest.mark.slow
def test_training(scan: Names, here: Path) -> None:
    for k in range(3):
        visit = make_study(k + 1).visits[0]
        ms.write(visit.images[0], here / f"DATA/sub-{k}/scan.nii.gz")
        ms.write(visit.labels[0], here / f"DATA/sub-{k}/scan_seg.nii.gz")
    shorter = {'"minutes": 60': '"minutes": 0.5', '{"out": "my-model"}': '{"out": "my-model", "minutes": 0.2}'}
    names = run("docs/how-to/train.md", scan, shorter=shorter)
    assert names["labels"].same_grid(names["image"])


@pytest.mark.slow
def test_a_real_change(scan: Names, here: Path) -> None:
    study = ms.read_study(sample_study(here / "study"))
    ms.run(study, "brain-tumor", out=here / "RESULT")
    names = run("docs/how-to/real-change.md", scan, shorter={'"repeats": 5': '"repeats": 2'})
    assert "real_change" in names["progression"].lesions


@pytest.mark.slow
def test_many_patients(here: Path) -> None:
    sample_study(here / "patients" / "sub-001")
    assert run("docs/how-to/batch.md", {})["table"]["status"].tolist() == ["done"]


@pytest.mark.slow
def test_classical_classifiers(here: Path) -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    for k in range(6):
        data = rng.normal(100, 10, (8, 32, 32))
        mask = np.zeros(data.shape, np.uint8)
        mask[2:5, 8:20, 8:20] = 1
        image = ms.ImageSequence(data + 60 * mask, ("z", "y", "x"), affine_from((1, 1, 3)), modality="MR", name="FLAIR")
        ms.write(image, here / f"patients/sub-{k}/FLAIR.nii.gz")
        ms.write(
            image.labels_like(mask, name="m", label_names={1: "tumour"}), here / f"patients/sub-{k}/FLAIR_mask.nii.gz"
        )
    assert len(run("docs/how-to/classical.md", {})["found"].probabilities) == 48


def test_corrections(here: Path) -> None:
    masks = [balls(8)] * 3
    ms.track(masks, dates=["2020-01-31", "2020-05-04", "2020-09-21"]).save(here / "result")
    names = run("docs/how-to/corrections.md", {})
    assert names["missed"] == []


def test_study_widget(here: Path) -> None:
    write_study(here / "study" / "sub-01")
    run("docs/widgets/study.md", {"viewer": ViewerModel()})
    assert (here / "session").is_dir()


def test_display_widget(viewer: tuple[ViewerModel, Path]) -> None:
    model, _ = viewer
    view.track_layers(model)
    hu = ms.ImageSequence(np.full((4, 8, 8), -500.0), ("z", "y", "x"), np.eye(4), modality="CT", name="CT")
    pet = ms.ImageSequence(np.ones((4, 8, 8)), ("z", "y", "x"), np.eye(4), modality="PT", name="PET")
    image, pet_layer = view.add_sequence(model, hu), view.add_sequence(model, pet)
    run("docs/widgets/display.md", {"viewer": model, "image": image, "pet": pet_layer, "position": model.dims.point})


def test_edit_widget(viewer: tuple[ViewerModel, Path]) -> None:
    model, _ = viewer
    layer = next(layer for layer in model.layers if layer._type_string == "labels")
    model.layers.selection.active = layer
    voxels = np.zeros_like(layer.data)
    voxels[..., 8:13:4, 30:45, 30:45] = 1
    voxels[..., 10, 50:60, 50:60] = 2
    layer.data, layer.selected_label = voxels, 1
    view.go_to_slice(model, layer, 10)
    run("docs/widgets/edit.md", {"viewer": model})


def test_preprocess_widget(here: Path) -> None:
    model = ViewerModel()
    earlier, visit, *_ = make_study(**COARSE).visits
    view.add_sequence(model, earlier.images[0].replace(name="T1 baseline"))
    view.add_sequence(model, visit.images[0].replace(name="T1"))
    view.add_sequence(model, visit.labels[0].replace(name="lesions"))
    view.add_sequence(model, visit.labels[0].replace(name="another mask"))
    (here / "recipe.yaml").write_text("- {kind: register}\n")
    names = run("docs/widgets/preprocess.md", {"viewer": model})
    assert names["image"].data.shape == names["mask"].data.shape
    assert (here / "onto-baseline.tfm").is_file()


def test_compare_widget(viewer: tuple[ViewerModel, Path]) -> None:
    assert viewer[1].joinpath("study", "sub-01").is_dir()
    names = run("docs/widgets/compare.md", {})
    assert names["mask"] in names["model"].layers
