"""Commands on images: info, convert, register."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from napari_medseq.cli import common
from napari_medseq.errors import MedseqError, SettingsError

#: endings of files for images, which labels may also have
IMAGES = (".nii", ".nii.gz", ".nrrd", ".mha")
WRITABLE = (*IMAGES, ".seg.nrrd", ".dcm")
#: the ending of a file's name; a folder that ends so is named with / behind it
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")
#: endings of files for transforms
TRANSFORMS = (".json", ".tfm", ".h5")


def add(commands: common.Commands) -> None:
    """Add the commands info, convert and register."""
    _add_info(commands)
    _add_convert(commands)
    _add_register(commands)


def _add_info(commands: common.Commands) -> None:
    info = common.add_command(commands, "info", "list what a file or folder contains; only headers are read")
    info.add_argument("path", help="file or folder")
    info.add_argument("--visits", action="store_true", help="also list the visits that are found in the folder")
    info.add_argument(
        "--identifiers", action="store_true", help="show the names and IDs of patients instead of pseudonyms"
    )
    common.add_json(info)
    info.set_defaults(run=_info)


def _add_convert(commands: common.Commands) -> None:
    convert = common.add_command(commands, "convert", "read images or labels and write them in another format")
    convert.add_argument("path", help="file or folder")
    convert.add_argument(
        "-o",
        "--out",
        required=True,
        help=f"the file to write ({' '.join(WRITABLE)}), or a folder if there are several images",
    )
    convert.add_argument(
        "--kind", choices=("image", "labels"), help="read the files as images or as labels; by default the files decide"
    )
    convert.add_argument(
        "--reference", help="the DICOM series to which labels refer that are written as DICOM SEG (.dcm)"
    )
    convert.add_argument(
        "--dicom",
        choices=("seg", "rtstruct"),
        help="how labels are written to .dcm: as a segmentation (the default) or as a structure set",
    )
    convert.add_argument("--format", help="the suffix of the files if --out is a folder (default .nii.gz)")
    common.add_series(convert)
    common.add_json(convert)
    convert.set_defaults(run=_convert)


def _add_register(commands: common.Commands) -> None:
    register = common.add_command(commands, "register", "register one image to another")
    register.add_argument("moving", help="the image that is moved")
    register.add_argument("fixed", help="the image that stays where it is")
    register.add_argument(
        "-o", "--out", help="write the moved image, resampled to the grid of the fixed image, to this file"
    )
    register.add_argument(
        "--transform", help="write the transform to this file (.json holds all of it; .tfm and .h5 are for ITK)"
    )
    register.add_argument(
        "--kind",
        default="rigid",
        choices=("translation", "rigid", "affine", "deformable"),
        help="how the image may move (default rigid)",
    )
    register.add_argument(
        "--backend",
        default="simpleitk",
        choices=("simpleitk", "elastix", "learned"),
        help="what computes the registration: SimpleITK, elastix (needs itk-elastix), or a recurrent network that deforms the image",
    )
    register.add_argument("--model", help="the bundle folder of the registration network, for --backend learned")
    common.add_json(register)
    register.set_defaults(run=_register)


def _info(args: argparse.Namespace) -> None:
    import napari_medseq as ms

    facts = ms.info(args.path, identifiers=bool(args.identifiers))
    text = _listed(facts)
    if args.visits:
        facts["visits"] = _visits(args.path)
        text += "\n\nvisits\n" + "\n".join(f"  {line}" for line in common.table(facts["visits"]).splitlines())
    common.answer(args, facts, text)


def _visits(path: str) -> list[dict[str, Any]]:
    """A row per visit of the patient in a folder: its date, images and masks."""
    import napari_medseq as ms

    study = ms.read_study(path, lazy=True)
    return [
        {
            "visit": number,
            "date": visit.date,
            "folder": visit.name,
            "images": [image.name for image in visit.images],
            "masks": [mask.name for mask in visit.labels],
        }
        for number, visit in enumerate(study.visits, 1)
    ]


def _listed(facts: dict[str, Any]) -> str:
    """Patients, the studies of each by their dates, the series of each, and all doubts, as text."""
    studies: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in facts["series"]:
        studies.setdefault((str(entry.get("patient") or ""), str(entry.get("study") or "")), []).append(entry)
    listed = []
    for (patient, study), entries in studies.items():
        days = sorted({str(e["date"]) for e in entries if e.get("date")})
        listed.append((patient, days, study, entries))
    several = len({str(e.get("source")) for e in facts["series"]}) > 1
    lines = []
    for patient, days, study, entries in sorted(listed, key=lambda row: row[:3]):
        heading = [patient, f"study {study}" if study else "", " and ".join(days[:2])]
        lines += ["", ", ".join(k for k in heading if k) or "files"]
        rows = [_row(e) | ({"where": _below(e, facts["path"])} if several else {}) for e in entries]
        lines += [f"  {line}" for line in common.table(rows).splitlines()]
        lines += [f"  ! {e['name']}: {doubt}" for e in entries for doubt in e.get("warnings") or ()]
    lines += [f"! {doubt}" for doubt in facts["warnings"]]
    return "\n".join(lines).strip("\n")


def _below(entry: dict[str, Any], folder: str) -> str:
    """Where the file or the folder of a series lies, below the folder that was asked about."""
    source = Path(str(entry.get("source") or ""))
    return str(source.relative_to(folder) if source.is_relative_to(folder) else source)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    times = entry.get("times_s") or []
    frames = entry.get("frames") or 1
    when = f"{frames} frames" if frames > 1 else ""
    if len(times) > 1:
        when += f", {times[0]:g} to {times[-1]:g} s"
    shape = list(entry.get("shape") or [])
    return {
        "name": entry["name"],
        "kind": entry["kind"],
        "modality": entry.get("modality"),
        "size": shape[:3],
        "spacing mm": [float(v) for v in entry.get("spacing_mm") or []],
        "time": when,
        "format": entry.get("format"),
        "files": entry.get("files", 1),
    }


def _described(facts: Any, depth: int = 0) -> str:
    """Nested facts as indented text, with lists of similar facts as tables."""
    pad = "  " * depth
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{pad}{name}:", _described(value, depth + 1)]
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            flat = [c for c in value[0] if not isinstance(value[0][c], (dict,))]
            nested = any(isinstance(v, list) and v and isinstance(v[0], dict) for v in value[0].values())
            if nested:
                for item in value:
                    lines += [f"{pad}{name}:", _described(item, depth + 1)]
            else:
                lines += [f"{pad}{name}:", *(f"{pad}  {line}" for line in common.table(value, flat).splitlines())]
        elif isinstance(value, list) and value and all(isinstance(v, list) for v in value):  # a matrix, row by row
            rows = [{str(k): v for k, v in enumerate(row)} for row in value]
            lines += [f"{pad}{name}:", *(f"{pad}  {line}" for line in common.table(rows).splitlines()[1:])]
        elif value not in (None, [], {}, ""):
            lines.append(f"{pad}{name}: {common.cell(value)}")
    return "\n".join(lines)


def _convert(args: argparse.Namespace) -> int:
    from fnmatch import fnmatchcase

    import napari_medseq as ms

    sequences = ms.read(args.path, kind=args.kind)
    if args.series:
        sequences = [s for s in sequences if any(fnmatchcase(s.name.lower(), p.lower()) for p in args.series)]
    if not sequences:
        raise SettingsError(f"{args.path}: no image is called like {', '.join(args.series)}; see `napari-medseq info`.")
    out = Path(args.out)
    to_folder = writable_suffix(out) is None
    if to_folder and not out.is_dir() and _ENDING.search(args.out):
        raise SettingsError(
            f"{out}: files are written as {' '.join(WRITABLE)}. If it is to be a folder, let its name end in /."
        )
    ending = (args.format or ".nii.gz") if to_folder else writable_suffix(out)
    if args.format and not to_folder:
        raise SettingsError("--format is for a folder as --out; a file's own name says its format.")
    if ending not in WRITABLE:
        raise SettingsError(f"--format {ending} is not one of {' '.join(WRITABLE)}.")
    if args.reference and ending != ".dcm":
        raise SettingsError("--reference is for labels that are written as .dcm.")
    if to_folder:
        paths = [out / f"{s.name}{ending}" for s in sequences]
    elif len(sequences) == 1:
        paths = [out]
    else:
        names = ", ".join(s.name for s in sequences) or "none"
        raise SettingsError(
            f"{len(sequences)} images are to be written to one file {out} ({names}); name a folder, or choose with --series."
        )
    for path in paths:
        common.spare_inputs(path, *sequences)
    written, failed = [], []
    for seq, path in zip(sequences, paths, strict=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            written.append(str(ms.write(seq, path, reference=args.reference, format=args.dicom)))
        except MedseqError as error:  # the other images are still written
            if len(sequences) == 1:
                raise
            failed.append({"image": seq.name, "error": str(error)})
            common.complain(str(error))
    common.answer(args, {"written": written, "failed": failed}, "\n".join(written))
    return 1 if failed else 0


def _register(args: argparse.Namespace) -> None:
    import napari_medseq as ms
    from napari_medseq.registration import register

    if args.out and writable_suffix(Path(args.out)) is None:
        raise SettingsError(f"{args.out}: the moved image is written as one of {' '.join(IMAGES)}.")
    if args.transform and not args.transform.endswith(TRANSFORMS):
        raise SettingsError(f"{args.transform}: the transform is written as one of {' '.join(TRANSFORMS)}.")
    moving, fixed = (common.one_image(path, by_series=False) for path in (args.moving, args.fixed))
    if args.out:
        if moving.kind != "labels" and writable_suffix(Path(args.out)) not in IMAGES:
            raise SettingsError(f"{args.out}: the moved image is written as one of {' '.join(IMAGES)}.")
        common.spare_inputs(args.out, moving, fixed)
    transform = register(moving, fixed, kind=args.kind, backend=args.backend, model=args.model, progress=common.bar())
    quality = transform.quality.model_dump()
    facts: dict[str, Any] = {"kind": args.kind, "quality": quality}
    if transform.matrix is not None:
        facts["matrix"] = transform.matrix
    if args.transform:
        facts["transform"] = str(transform.save(args.transform))
    if args.out:
        moved = transform.apply(moving)
        if "stored" in fixed.meta:  # the written file gets the orientation of the fixed image's file
            moved = moved.replace(meta={**moved.meta, "stored": fixed.meta["stored"]})
        facts["written"] = str(ms.write(moved, args.out))
    common.answer(args, facts, _described(common.plain(facts)))


def writable_suffix(path: Path) -> str | None:
    """The suffix that decides the format; None if the path is meant as a folder."""
    return next((s for s in sorted(WRITABLE, key=len, reverse=True) if path.name.lower().endswith(s)), None)
