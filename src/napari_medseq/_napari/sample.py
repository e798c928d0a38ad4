"""File → Open Sample: the synthetic patient, made once and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path

from napari_medseq import __version__, io
from napari_medseq.viewer.layers.conversion import LayerData
from napari_medseq.viewer.layers.studies import study_layer_data


def sample_folder() -> Path:
    """The folder of the sample study in the user's cache; made on first use."""
    import platformdirs

    from napari_medseq.synthetic import sample_study

    folder = Path(platformdirs.user_cache_dir("napari-medseq")) / f"sample-study-{__version__}"
    marker = folder / "complete"
    if not marker.exists():
        sample_study(folder / "study")
        marker.touch()
    return folder / "study" / "sub-sample"


def longitudinal_brain() -> list[LayerData]:
    """Layer data of the sample study: three visits of one synthetic patient."""
    from napari_medseq._napari.reader import application_viewer
    from napari_medseq.viewer.opening import arrange_when_added

    data = study_layer_data(io.read_study(sample_folder()))
    viewer = application_viewer()
    if viewer is not None:
        arrange_when_added(viewer)
    return data
