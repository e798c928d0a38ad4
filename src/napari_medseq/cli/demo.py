"""``napari-medseq demo``: the main job on a synthetic patient, written to files or shown in napari."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseq.cli import common
from napari_medseq.cli.results import counted
from napari_medseq.errors import MedseqError

if TYPE_CHECKING:
    from napari_medseq.progression import Progression
    from napari_medseq.sequence import Study


def add(commands: common.Commands) -> None:
    """Add the command demo."""
    demo = common.add_command(commands, "demo", "make a synthetic patient with three visits, and do what `run` does")
    demo.add_argument(
        "-o",
        "--out",
        default="napari-medseq-demo",
        help="the folder for the study and the result (default %(default)s)",
    )
    demo.add_argument("-m", "--model", default="brain-tumor", help="the segmentation model (default %(default)s)")
    demo.add_argument("--viewer", action="store_true", help="then open the result in napari")
    demo.add_argument(
        "--device", default="auto", help="where the model runs: auto (the default), cpu, cuda, cuda:N or mps"
    )
    common.add_json(demo)
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> None:
    from napari_medseq import io, pipeline
    from napari_medseq.synthetic.files import sample_study

    out = Path(args.out).resolve()
    began = time.perf_counter()
    study = io.read_study(sample_study(out / "study"))
    progression = pipeline.run(study, args.model, out=out / "result", device=args.device, progress=common.bar())
    seconds = time.perf_counter() - began
    result = out / "result"
    places_by_kind = {
        "study": out / "study",
        "labels": sorted(result.glob("ses-*/*_lesions.nii.gz")),
        "plot": result / "progression.png",
        "table": result / "lesions.csv",
        "summary": result / "summary.csv",
        "record": result / "run.json",
    }
    columns = ("visit", "date", "lesion", "volume_ml", "event", "parents")
    rows = common.rows_of(progression.lesions)  # JSON counts visits from 0, as lesions.csv does; people from 1
    for row in rows:
        row["date"] = str(row["date"])[:10]
    places = [f"{k:8}{p}" for k, v in places_by_kind.items() for p in (v if isinstance(v, list) else [v])]
    text = "\n".join([common.table(counted(rows), columns), "", f"done in {seconds:.0f} s; written to {out}:", *places])
    common.answer(args, {**places_by_kind, "seconds": seconds, "lesions": rows}, text)
    if args.viewer:
        show(study, progression)


def show(study: Study, progression: Progression) -> None:
    """Open napari with a study and its result, until the user closes it.

    Raises
    ------
    MedseqError
        If napari is not installed.
    """
    try:
        import napari
    except ImportError:
        raise MedseqError("napari is not installed; install it with: pip install 'napari-medseq[all]'.") from None
    fill(napari.Viewer(title="napari-medseq demo"), study, progression)
    napari.run()


def fill(viewer: Any, study: Study, progression: Progression) -> None:
    """Show a study, its lesions, their plot and the Progression widget in a napari viewer."""
    from napari_medseq import viewer as view

    view.add_study(viewer, study)
    _, widget = viewer.window.add_plugin_dock_widget("napari-medseq", "Progression")
    widget.show_result(progression, study)
