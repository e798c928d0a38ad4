"""Commands that preprocess images: preprocess, and the list of steps."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq.cli import common
from napari_medseq.cli.images import IMAGES, WRITABLE, writable_suffix
from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError

if TYPE_CHECKING:
    from napari_medseq.preprocessing.pipeline import StepLike
    from napari_medseq.sequence import ImageSequence

#: columns of the table of `preprocess --patients` that are shown on a terminal
_SHOWN = ("patient", "visit", "image", "status", "seconds", "error")


def add(commands: common.Commands) -> None:
    """Add the commands preprocess and steps."""
    preprocess = common.add_command(
        commands,
        "preprocess",
        "apply preprocessing steps: bias field, noise, intensities, resampling, cropping, registration, dynamic series",
    )
    preprocess.add_argument("path", nargs="+", help="image files, or the folders of series or of a study")
    preprocess.add_argument(
        "-o",
        "--out",
        required=True,
        help=f"the file to write ({' '.join(IMAGES)}; labels also as {WRITABLE[4]}), or a folder if there are several images",
    )
    preprocess.add_argument(
        "-s",
        "--step",
        action="append",
        required=True,
        help="a step: its name (`napari-medseq steps` lists them), for the usual settings; window:lung; its settings, as in "
        "'{kind: median, radius: 2}'; or a YAML or JSON file of steps. The option may be repeated; steps are applied in order",
    )
    preprocess.add_argument("--reference", help="the other image or the labels that some steps need")
    preprocess.add_argument(
        "--follow",
        nargs=2,
        action="append",
        default=[],
        metavar=("MASK", "OUT"),
        help="apply the same movement, cropping and resampling to the label file MASK and write it to OUT; the option may be repeated",
    )
    preprocess.add_argument(
        "--patients",
        action="store_true",
        help="the path is a folder with one study per patient: preprocess all their images into the folder --out, and their masks with "
        "them; each image is registered to the same series of the patient's first visit",
    )
    preprocess.add_argument(
        "--save-steps", metavar="FILE", help="write the steps with all their settings to this file, as YAML or JSON"
    )
    common.add_series(preprocess)
    common.add_json(preprocess)
    preprocess.set_defaults(run=_preprocess)

    steps = common.add_command(commands, "steps", "list the preprocessing steps, or the settings of one of them")
    steps.add_argument("step", nargs="?", help="list the settings of this step, with units, defaults and bounds")
    common.add_json(steps)
    steps.set_defaults(run=_steps)


def _preprocess(args: argparse.Namespace) -> int:
    from napari_medseq.preprocessing import parse, save

    chain: list[StepLike] = [part for text in args.step for part in _parsed(text)]
    if args.save_steps:
        save(chain, args.save_steps)
    else:
        parse(chain)  # wrong settings are reported before anything is read
    if args.patients:
        return _patients(args, chain)
    reference = common.one_image(args.reference, by_series=False) if args.reference else None
    if writable_suffix(Path(args.out)) is not None:
        return _to_file(args, chain, reference)
    return _to_folder(args, chain, reference)


def _to_file(args: argparse.Namespace, chain: list[StepLike], reference: ImageSequence | None) -> int:
    """Preprocess one image, and the masks that follow it."""
    if len(args.path) > 1:
        raise SettingsError(f"{args.out}: {len(args.path)} paths are to be written to one file; name a folder.")
    for _, out in args.follow:
        if writable_suffix(Path(out)) not in WRITABLE[:5]:
            raise SettingsError(f"{out}: the mask is written as one of {' '.join(WRITABLE[:5])}.")
    common.distinct([args.out, *(out for _, out in args.follow)])
    seq = common.one_image(args.path[0], args.series)
    facts = _one(seq, chain, Path(args.out), reference, args.follow)
    common.answer(args, facts, str(facts["written"]))
    return 0


def _to_folder(args: argparse.Namespace, chain: list[StepLike], reference: ImageSequence | None) -> int:
    """Preprocess every image of the paths."""
    if args.follow:
        raise SettingsError("A mask follows one image; name a file with --out, not a folder.")
    suffix = Path(args.out).suffix
    if suffix and not suffix[1:2].isdigit() and not Path(args.out).is_dir():  # "out_1.5mm" is a folder
        raise SettingsError(f"{args.out}: an image is written as one of {' '.join(IMAGES)}.")
    written, failed = [], []
    for seq, target in _all(args.path, args.series, Path(args.out)):
        try:
            written.append(_one(seq, chain, target, reference, ()))
        except OperationCancelled:
            raise
        except MedseqError as error:  # the other images are still processed
            failed.append({"image": seq.name, "error": str(error)})
            common.complain(str(error))
    if not written and not failed:
        raise MedseqError("There is no image to work on; check the paths and --series.")
    common.answer(args, {"images": written, "failed": failed}, "\n".join(str(f["written"]) for f in written))
    return 1 if failed else 0


def _patients(args: argparse.Namespace, chain: list[StepLike]) -> int:
    """Preprocess every image of a folder of patients."""
    from napari_medseq.cohort import preprocess_cohort

    if args.reference or args.follow:
        raise SettingsError(
            "With --patients the other image is that of the first visit, and masks follow; leave --reference and --follow out."
        )
    studies = args.path[0] if len(args.path) == 1 else args.path
    table = preprocess_cohort(studies, chain, args.out, series=args.series, progress=common.bar())
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    common.answer(args, rows, f"{common.table(rows, _SHOWN)}\n\nwritten to {args.out}")
    failed = int((table["status"] == "failed").sum())
    if failed:
        raise MedseqError(f"{failed} of {len(table)} images failed; the table says why ({args.out}/preprocessed.csv).")
    return 0


def _parsed(text: str) -> list[StepLike]:
    """A step as the command line takes it: a name, settings in braces, or the steps of a file."""
    from napari_medseq.preprocessing import load
    from napari_medseq.yaml_text import parse_values

    if text.endswith((".yaml", ".yml", ".json")):
        return [*load(text)]
    if not text.lstrip().startswith("{"):
        return [text]
    value = parse_values(text, where=f"--step {text!r}")
    if not isinstance(value, dict):
        raise SettingsError(f"--step {text!r} is not a step; give its settings as {{kind: NAME, …}}.")
    return [value]


def _one(
    seq: ImageSequence,
    chain: list[StepLike],
    target: Path,
    reference: ImageSequence | None,
    follow_masks: Iterable[tuple[str, str]],
) -> dict[str, object]:
    import napari_medseq as ms
    from napari_medseq.preprocessing import follow, preprocess

    if seq.kind != "labels" and writable_suffix(target) not in WRITABLE[:5]:
        raise SettingsError(f"{target}: the image is written as one of {' '.join(IMAGES)}.")
    masks = [(common.one_image(mask, kind="labels", by_series=False), out) for mask, out in follow_masks]
    outs: list[str | Path] = [target, *(out for _, out in masks)]
    for path in outs:
        common.spare_inputs(path, seq, reference, *(labels for labels, _ in masks))
    result = preprocess(seq, chain, reference=reference, progress=common.bar())
    if result.kind != "labels" and writable_suffix(target) not in IMAGES:
        raise SettingsError(f"{target}: the image is written as one of {' '.join(IMAGES)}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    facts: dict[str, object] = {
        "written": str(ms.write(result, target)),
        "steps": result.meta.get("steps", []),
        "shape": result.sizes,
        "spacing_mm": result.spacing,
        "warnings": list(result.warnings),
    }
    if masks:
        moved = [(follow(labels, result), out) for labels, out in masks]
        facts["followed"] = [str(ms.write(labels, out)) for labels, out in moved]
    return facts


def _all(paths: list[str], series: list[str] | None, out: Path) -> Iterator[tuple[ImageSequence, Path]]:
    """Every image of the paths, with its output file: below `out` at the same place as below its path's folder."""
    import napari_medseq as ms
    from napari_medseq.io.naming import untaken
    from napari_medseq.sequence import matches

    targets: set[str] = set()
    for path in map(Path, paths):
        for seq in ms.read(path):
            if seq.kind == "labels" or (series and not matches(seq, series)):
                continue
            source = seq.meta.get("source")
            near = Path(source).parent if isinstance(source, str) else path
            below = near.relative_to(path) if path.is_dir() and near.is_relative_to(path) else Path()
            folder = out / (path.name if len(paths) > 1 and path.is_dir() else "") / below
            target = untaken(os.path.join(folder, _file_name(seq)), targets, ".nii.gz")
            targets.add(target.casefold())
            yield seq, Path(target)


def _file_name(seq: ImageSequence) -> str:
    """The name of the image's own file, which may be the same in every visit's folder, or else that of the image."""
    source = seq.meta.get("source")
    ending = writable_suffix(Path(source)) if isinstance(source, str) else None
    return Path(str(source)).name[: -len(ending)] if ending else seq.name


def _steps(args: argparse.Namespace) -> None:
    from napari_medseq.preprocessing import STEPS, settings_of

    if args.step is None:
        rows: list[dict[str, object]] = [
            {
                "step": kind,
                "does": step.title,
                "labels too": "yes" if step.takes_labels else "",
                "reference": "yes" if step.takes_reference else "",
            }
            for kind, step in STEPS.items()
        ]
    else:
        if args.step not in STEPS:
            raise SettingsError(f"There is no preprocessing step {args.step!r}; use one of {', '.join(STEPS)}.")
        rows = [
            {
                "setting": f.name,
                "default": f.default,
                "unit": f.unit,
                "least": f.minimum,
                "most": f.maximum,
                "choices": ", ".join(map(str, f.choices)),
                "what it is": f.description,
            }
            for f in settings_of(args.step)
        ]
    common.answer(args, rows, common.table(rows))
