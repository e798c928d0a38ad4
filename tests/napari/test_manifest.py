"""Readers, writers, sample and manifest, as napari calls them."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq import viewer as verbs
from napari_medseq._napari import sample
from napari_medseq._napari.reader import get_reader
from napari_medseq.errors import ReadError
from napari_medseq.viewer.layers.conversion import KEY
from tests.balls import AFFINES, ball_image

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


@pytest.fixture
def plugin(npe2pm: Any) -> Any:
    manifest = PluginManifest.from_file(ROOT / "napari.yaml")
    npe2pm.register(manifest)
    return manifest


def test_every_command_of_the_manifest_is_there(plugin: PluginManifest) -> None:
    assert (ROOT / "napari.yaml").is_symlink()
    for command in plugin.contributions.commands or []:
        module, _, name = str(command.python_name).partition(":")
        assert callable(getattr(import_module(module), name))
    names = [w.display_name for w in plugin.contributions.widgets or []]
    assert names == [
        "Study",
        "Preprocess",
        "Analyse",
        "Progression",
        "Compare",
        "Time curves",
        "Teach",
        "Edit",
        "Display",
    ]
    assert PluginManager.instance().get_manifest("napari-medseq") is plugin


@pytest.mark.usefixtures("plugin")
def test_a_viewer_model_opens_files_and_folders_and_saves_them(ball_study: Path, tmp_path: Path) -> None:
    viewer = ViewerModel()
    viewer.open(ball_study, plugin="napari-medseq")
    assert [layer.metadata[KEY]["date"] for layer in viewer.layers] == ["2020-01-31"] * 2 + ["2020-05-04"] * 2
    image = viewer.layers["sub-x ses-20200504 T1post"]
    (path,) = image.save(str(tmp_path / "out.nii.gz"), plugin="napari-medseq")
    written: Any = nib.load(path)
    np.testing.assert_allclose(written.affine, AFFINES[1], atol=1e-4)
    np.testing.assert_array_equal(np.asarray(written.dataobj), ball_image(1)[0])
    labels = viewer.layers["sub-x ses-20200504 tumor"]
    (path,) = labels.save(str(tmp_path / "mask.seg.nrrd"), plugin="napari-medseq")
    assert path.endswith(".seg.nrrd")
    back = ms.read(path)[0]
    assert int(np.count_nonzero(back.data)) == int(ball_image(1)[1].sum())
    plain = ViewerModel()
    plain.open(ball_study / "ses-20200131" / "sub-x_T1post.nii.gz", plugin="napari-medseq")
    assert plain.layers[0].data.shape == (16, 48, 48)


def test_what_is_not_ours_is_declined_quickly(tmp_path: Path, ball_study: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image\n" * 1000)
    get_reader(str(text))
    start = time.perf_counter()
    for _ in range(20):
        assert get_reader(str(text)) is None
    assert (time.perf_counter() - start) / 20 < 0.005
    assert get_reader(str(tmp_path)) is None  # a folder of text
    assert get_reader([str(text)]) is None
    nifti = ball_study / "ses-20200131" / "sub-x_T1post.nii.gz"
    plain = tmp_path / "IM0001"
    plain.write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 64)
    assert get_reader(str(plain)) is not None
    assert get_reader([str(nifti)]) is not None
    assert get_reader(str(ball_study)) is not None


def test_an_empty_folder_is_one_clear_error(tmp_path: Path) -> None:
    reader = get_reader(str(tmp_path))
    assert reader is not None
    with pytest.raises(ReadError, match=str(tmp_path)):
        reader(str(tmp_path))


def test_the_sample_opens_as_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "sample_folder", lambda: ROOT / "sample_data" / "study")
    data = sample.longitudinal_brain()
    assert len(data) == 3
    assert [kwargs["metadata"][KEY]["ordinal"] for _, kwargs, _ in data] == [0, 1, 2]
    assert {kwargs["axis_labels"][0] for _, kwargs, _ in data} == {"visit"}


def test_the_sample_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[Path] = []
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))

    def write(folder: Path) -> None:
        Path(folder).mkdir(parents=True)
        made.append(folder)

    monkeypatch.setattr("napari_medseq.synthetic.sample_study", write)
    assert sample.sample_folder() == sample.sample_folder()
    assert len(made) == 1


def test_dicom_seg_refers_to_the_series_it_was_drawn_on(tmp_path: Path) -> None:
    viewer = ViewerModel()
    session = sorted((ROOT / "sample_data" / "dicom").glob("ses-*"))[0]
    (image,) = verbs.open_path(viewer, session)
    seq = verbs.to_sequence(image)
    data = np.zeros(seq.data.shape, np.uint8)
    data[5:8, 50:60, 50:60] = 1
    labels = verbs.add_sequence(viewer, seq.labels_like(data, name="drawn", label_names={1: "lesion"}))
    from napari_medseq._napari.writer import write_labels

    data, attributes, _ = labels.as_layer_data_tuple()
    (path,) = write_labels(str(tmp_path / "seg.dcm"), data, attributes)
    assert int(np.count_nonzero(ms.read(path)[0].data)) == 300


@pytest.mark.viewer
@pytest.mark.usefixtures("plugin")
def test_one_command_and_dropping_a_folder_asks_nothing(
    make_napari_viewer: Any,
    npe2pm: Any,
    ball_study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import napari_builtins
    from napari.errors import MultipleReaderError
    from napari.settings import NapariSettings

    npe2pm.register(PluginManifest.from_file(Path(napari_builtins.__file__).parent / "builtins.yaml"))
    mine = NapariSettings(config_path=tmp_path / "settings.yaml")
    mine.plugins.extension2reader = {"*.nrrd": "another"}
    for module in ("napari.settings", "napari.plugins.utils"):
        monkeypatch.setattr(f"{module}.get_settings", lambda: mine)
    viewer = make_napari_viewer(show=False)
    with pytest.raises(MultipleReaderError):
        viewer.open(ball_study, plugin=None)
    assert cli.main(["doctor", "--prefer"]) == 0
    told = capsys.readouterr().out
    assert "*.nii.gz" in told
    assert "*.nrrd stays with another" in told
    assert "napari-medseq" in (tmp_path / "settings.yaml").read_text()
    assert len(viewer.open(ball_study, plugin=None)) == 4
    assert viewer.dims.axis_labels == ("visit", "z", "y", "x")
    assert len(viewer.open(next(ball_study.rglob("*.nii.gz")), plugin=None)) == 1
