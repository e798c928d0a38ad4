"""Commands that use models: segment, classify, evaluate."""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseq import files
from napari_medseq.cli import common
from napari_medseq.cli.images import IMAGES, WRITABLE, writable_suffix
from napari_medseq.errors import ReadError, SettingsError, warn
from napari_medseq.tables import csv_cell, csv_text
from napari_medseq.wording import how_many, some

if TYPE_CHECKING:
    from napari_medseq.inference.segmentation import Output


def add(commands: common.Commands) -> None:
    """Add the commands segment, classify and evaluate."""
    _add_segment(commands)
    _add_classify(commands)
    _add_evaluate(commands)


def _add_segment(commands: common.Commands) -> None:
    segment = common.add_command(commands, "segment", "segment an image, or each image of a folder, on its own grid")
    segment.add_argument(
        "path",
        help="an image file or the folder of a series; or a folder of images or of cases, if --out is a folder too",
    )
    segment.add_argument(
        "-o",
        "--out",
        required=True,
        help=f"the label file to write ({' '.join(WRITABLE)}); or a folder, which receives one label file per image",
    )
    segment.add_argument(
        "--format",
        metavar="ENDING",
        help="the suffix of the label files if --out is a folder (default .nii.gz)",
    )
    segment.add_argument(
        "--again", action="store_true", help="with a folder: also segment the images whose label file exists already"
    )
    common.add_model(segment, several=True)
    segment.add_argument(
        "--probability", metavar="FILE", help="also write the probability that a voxel belongs to any class"
    )
    segment.add_argument(
        "--uncertainty",
        metavar="FILE",
        help="also write the uncertainty: the entropy of the class probabilities, from 0 to 1",
    )
    segment.add_argument(
        "--keep", metavar="FILE", help="a label file on the grid of the image; what is labelled there is kept unchanged"
    )
    common.add_json(segment)
    segment.set_defaults(run=_segment)


def _add_classify(commands: common.Commands) -> None:
    classify = common.add_command(commands, "classify", "classify an exam and each of its slices or frames")
    classify.add_argument("path", help="an image file or the folder of a series")
    common.add_model(classify, several=True)
    classify.add_argument("-o", "--out", metavar="FILE.csv", help="write the probabilities of each slice or frame")
    common.add_json(classify)
    classify.set_defaults(run=_classify)


def _add_evaluate(commands: common.Commands) -> None:
    evaluate = common.add_command(commands, "evaluate", "compare predicted labels with true ones")
    evaluate.add_argument(
        "-p",
        "--prediction",
        nargs="+",
        required=True,
        help="the predicted label files, in the order of --truth; or a folder of them",
    )
    evaluate.add_argument(
        "-t",
        "--truth",
        nargs="+",
        required=True,
        help="the true label files; or a folder, whose files belong to the predictions of the same name",
    )
    evaluate.add_argument("-o", "--out", metavar="FILE.csv", help="write the table, with one row per case and class")
    common.add_json(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _chosen(args: argparse.Namespace, model: Any) -> Any:
    """The image, or the channels, for the model."""
    import napari_medseq as ms
    from napari_medseq.models.choosing import choose_image

    return choose_image(
        ms.read(args.path, lazy="auto"), model.info, series=args.series, where=args.path, force=args.force
    )


def _segment(args: argparse.Namespace) -> int:
    import napari_medseq as ms

    if not Path(args.path).exists() and not args.out.lower().endswith(WRITABLE):
        raise ReadError(f"{args.path}: there is no such file or folder; check the path.")
    if Path(args.path).is_dir() and not args.out.lower().endswith(WRITABLE):
        return _segment_folder(args)
    for path, endings in ((args.out, WRITABLE), (args.probability, IMAGES), (args.uncertainty, IMAGES)):
        if path and writable_suffix(Path(path)) not in endings:
            raise SettingsError(f"{path}: the file name must end in one of {' '.join(endings)}.")
    common.distinct([args.out, args.probability, args.uncertainty])
    if args.again or args.format:
        raise SettingsError("--again and --format are for a folder as --out.")
    from napari_medseq.inference.folders import volumes_ml
    from napari_medseq.inference.outputs.ensemble import models_of

    models = models_of(args.model)
    images = _chosen(args, models[0])
    first = next(iter(images.values())) if isinstance(images, dict) else images
    maps: dict[Output, str] = {"probability": args.probability, "uncertainty": args.uncertainty}
    outputs: list[Output] = ["labels", *(name for name, path in maps.items() if path)]
    common.check_dicom(args.out, first)
    keep = common.labels_on(args.keep, first) if args.keep else None
    for path in (args.out, args.probability, args.uncertainty):
        if path:
            common.spare_inputs(path, *(images.values() if isinstance(images, dict) else [images]), args.keep)
    segmentation = ms.segment(
        images, models, device=args.device, outputs=outputs, keep=keep, force=args.force, progress=common.bar()
    )
    written = {
        "labels": str(
            ms.write(segmentation.labels, args.out, reference=args.path if args.out.lower().endswith(".dcm") else None)
        )
    }
    for output in outputs[1:]:
        written[output] = str(ms.write(getattr(segmentation, output), getattr(args, output)))
    volumes = volumes_ml(segmentation.labels)
    facts = {"image": first.name, "model": segmentation.model, "written": written, "volume_ml": volumes}
    mean = f" (mean of {first.size('t')} frames)" if segmentation.labels.is_dynamic else ""
    text = "\n".join(
        [*(f"{name}: {ml:.2f} mL{mean}" for name, ml in volumes.items()), *(f"{k}: {v}" for k, v in written.items())]
    )
    common.answer(args, facts, text)
    return 0


def _segment_folder(args: argparse.Namespace) -> int:
    """Write one label file for each image; status 1 if any failed."""
    from napari_medseq.inference.folders import segment_folder

    if args.probability or args.uncertainty or args.keep:
        raise SettingsError(
            "--probability, --uncertainty and --keep are for one image; write one label file with -o FILE."
        )
    args.format = args.format or ".nii.gz"
    if args.format not in WRITABLE or args.format == ".dcm":
        raise SettingsError(f"--format {args.format} is not one of {' '.join(e for e in WRITABLE if e != '.dcm')}.")
    results = segment_folder(
        Path(args.path), args.model, Path(args.out), ending=args.format, series=args.series, device=args.device, force=args.force,
        again=args.again, progress=common.bar(),
    )  # fmt: skip
    rows = [
        {
            "case": d.case,
            "status": d.status,
            "seconds": f"{d.seconds:.1f}",
            **{f"{k}, mL": f"{v:.2f}" for k, v in d.volumes_ml.items()},
        }
        for d in results
    ]
    failed = [d for d in results if d.status == "failed"]
    text = [common.table(rows), "", f"{len(results) - len(failed)} of {len(results)} label files are in {args.out}"]
    text += [f"{d.case}: {d.error}" for d in failed]
    common.answer(args, [{**asdict(d), "labels": str(d.labels)} for d in results], "\n".join(text))
    return 1 if failed else 0


def _classify(args: argparse.Namespace) -> None:
    import napari_medseq as ms
    from napari_medseq.inference.outputs.ensemble import models_of

    common.check_csv(args.out)
    models = models_of(args.model)
    classification = ms.classify(
        _chosen(args, models[0]), models, device=args.device, force=args.force, progress=common.bar()
    )
    steps = [
        {"step": i, **dict(zip(classification.classes, p, strict=True)), "attention": w}
        for i, (p, w) in enumerate(
            zip(classification.per_step.tolist(), classification.attention.tolist(), strict=True)
        )
    ]
    if args.out:
        _write_csv(Path(args.out), steps)
    facts = {
        "model": classification.model,
        "probabilities": classification.probabilities,
        "step_axis": classification.step_axis,
        "per_step": steps,
    }
    text = "\n".join([*(f"{n}: {p:.3f}" for n, p in classification.probabilities.items()), "", common.table(steps)])
    common.answer(args, facts, text)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with files.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([csv_text(name) for name in (rows[0] if rows else [])])
        writer.writerows([csv_cell(value) for value in row.values()] for row in rows)


def _evaluate(args: argparse.Namespace) -> None:
    import napari_medseq as ms

    common.check_csv(args.out)
    if (
        len(args.prediction) == len(args.truth) == 1
        and Path(args.prediction[0]).is_dir()
        and Path(args.truth[0]).is_dir()
    ):
        args.prediction, args.truth = _called_alike(Path(args.prediction[0]), Path(args.truth[0]))
    if len(args.prediction) != len(args.truth):
        raise SettingsError(
            f"{how_many(len(args.prediction), 'prediction')} and {how_many(len(args.truth), 'truth')}; give one per case, in one order."
        )
    predictions, truths = (
        [common.one_image(p, kind="labels", by_series=False) for p in paths] for paths in (args.prediction, args.truth)
    )
    names = [_case(p) for p in args.truth]
    result = ms.evaluate(predictions, truths, names=names, progress=common.bar())
    rows = common.rows_of(result.table)
    if args.out:
        _write_csv(Path(args.out), rows)
    columns = [
        c
        for c in ("case", "label_name", "dice", "hd95_mm", "volume_ml", "truth_ml", "lesion_f1")
        if rows and c in rows[0]
    ]
    common.answer(args, rows, common.table(rows, columns or None))


def _called_alike(predictions: Path, truths: Path) -> tuple[list[str], list[str]]:
    """Label files of two folders that have the same names; every prediction needs its truth.

    Raises
    ------
    SettingsError
        If a prediction has no truth, or two files of one folder have one name.

    Warns
    -----
    MedseqWarning
        If a truth has no prediction.
    """
    predicted, true = _by_name(predictions), _by_name(truths)
    alone = sorted(set(predicted) - set(true))
    if alone or not predicted:
        problem = f"no truth is called like {', '.join(alone[:4])}" if alone else "there are no predictions"
        raise SettingsError(f"{predictions} and {truths}: {problem}; files that belong together have the same name.")
    if missing := sorted(set(true) - set(predicted)):
        names = some(missing)
        warn(f"{predictions} holds no prediction of {len(missing)} of {len(true)} truths ({names}); they do not count.")  # fmt: skip
    return list(predicted.values()), [true[name] for name in predicted]


def _by_name(folder: Path) -> dict[str, str]:
    """The label files of a folder by their names without endings.

    Raises
    ------
    SettingsError
        If two have one name.
    """
    from napari_medseq.io.files import looks_like_image
    from napari_medseq.io.naming import stem

    by_name: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file() or not looks_like_image(path):
            continue
        other = by_name.setdefault(stem(path), str(path))
        if other != str(path):
            raise SettingsError(f"{other} and {path} have the same name; remove one of them.")
    return by_name


def _case(path: str) -> str:
    """Name of a case: its file, and the folder that contains it."""
    return "/".join(Path(path).resolve().parts[-2:])
