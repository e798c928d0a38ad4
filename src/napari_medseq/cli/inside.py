"""Commands that explain a model, make it smaller or export it: explain, locate, compress, export."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_medseq.cli import common
from napari_medseq.errors import SettingsError

_IMAGES = (".nii", ".nii.gz", ".nrrd", ".mha")


def add(commands: common.Commands) -> None:
    """Add the commands explain, locate, compress and export."""
    _add_explain(commands)
    _add_locate(commands)
    _add_compress(commands)
    _add_export(commands)


def _add_explain(commands: common.Commands) -> None:
    explain = common.add_command(
        commands, "explain", "write a map that shows which parts of an image speak for a class"
    )
    explain.add_argument("path", help="an image file or the folder of a series")
    explain.add_argument("-o", "--out", required=True, help=f"the file to write ({' '.join(_IMAGES)})")
    common.add_model(explain)
    explain.add_argument(
        "--target", help="the name or value of the class to explain (default: the first class of the model)"
    )
    explain.add_argument(
        "--method",
        default="grad-cam",
        choices=("grad-cam", "attention", "occlusion"),
        help="how the map is computed (default grad-cam)",
    )
    common.add_json(explain)
    explain.set_defaults(run=_explain)


def _add_locate(commands: common.Commands) -> None:
    locate = common.add_command(
        commands, "locate", "find candidates as boxes and landmarks, in a fast pass at low resolution"
    )
    locate.add_argument("path", help="an image file or the folder of a series")
    common.add_model(locate)
    locate.add_argument(
        "--refine-with",
        "--closer",  # the name in earlier versions
        metavar="MODEL",
        help="a segmentation model that examines each candidate at full resolution",
    )
    locate.add_argument(
        "--min-score",
        "--least",  # the name in earlier versions
        dest="min_score",
        type=float,
        default=0.3,
        help="the lowest probability of a candidate (default 0.3)",
    )
    common.add_json(locate)
    locate.set_defaults(run=_locate)


def _add_compress(commands: common.Commands) -> None:
    compress = common.add_command(
        commands, "compress", "make a model smaller, by fewer channels, lower rank and fewer bits"
    )
    compress.add_argument("model", help="the name of a model, or the folder of its bundle")
    compress.add_argument("-o", "--out", required=True, help="the bundle folder to write")
    common.add_settings(compress, "keep=0.5")
    common.add_json(compress)
    compress.set_defaults(run=_compress)


def _add_export(commands: common.Commands) -> None:
    export = common.add_command(
        commands, "export", "write the network of a model for other programs, as ONNX or torch.export"
    )
    export.add_argument("model", help="the name of a model, or the folder of its bundle")
    export.add_argument("-o", "--out", required=True, help="the file to write (.onnx or .pt2)")
    export.add_argument(
        "--steps", type=int, default=16, help="the number of steps (slices or frames) of the sequence (default 16)"
    )
    export.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(192, 192),
        metavar=("ROWS", "COLUMNS"),
        help="the size of each step in pixels (default 192 192)",
    )
    common.add_json(export)
    export.set_defaults(run=_export)


def _explain(args: argparse.Namespace) -> None:
    import napari_medseq as ms
    from napari_medseq.models.choosing import choose_image

    if not args.out.lower().endswith(_IMAGES):
        raise SettingsError(f"{args.out}: the file name must end in one of {' '.join(_IMAGES)}.")
    model = ms.load_model(args.model)
    images = choose_image(ms.read(args.path), model.info, series=args.series, where=args.path, force=args.force)
    common.spare_inputs(args.out, *(images.values() if isinstance(images, dict) else [images]))
    target = int(args.target) if args.target and args.target.lstrip("-").isdigit() else args.target
    explanation = ms.explain(
        images, model, target=target, method=args.method, device=args.device, force=args.force, progress=common.bar()
    )
    written = str(ms.write(explanation, args.out))
    common.answer(
        args, {"written": written, "method": args.method, "target": target, "model": model.info.name}, written
    )


def _compress(args: argparse.Namespace) -> None:
    import napari_medseq as ms
    from napari_medseq.training.compression import measures

    before = ms.load_model(args.model)
    settings = {**common.settings(args), "out": str(Path(args.out).resolve())}
    after = ms.compress(before, settings, progress=common.bar())
    rows = [{"model": m.info.name, **measures(m)} for m in (before, after)]
    facts = {"bundle": after.info.folder, "before": rows[0], "after": rows[1]}
    common.answer(args, facts, f"{common.table(rows)}\n\n{after.info.name}: {after.info.folder}")


def _locate(args: argparse.Namespace) -> None:
    import napari_medseq as ms
    from napari_medseq.models.choosing import choose_image

    model = ms.load_model(args.model)
    images = choose_image(ms.read(args.path), model.info, series=args.series, where=args.path, force=args.force)
    locations = ms.locate(
        images,
        model,
        refine_with=args.refine_with,
        min_score=args.min_score,
        device=args.device,
        force=args.force,
        progress=common.bar(),
    )
    rows = [
        {"score": f.score, **dict(zip(("r_mm", "a_mm", "s_mm"), f.centre_mm.tolist(), strict=True)), "box": f.box}
        for f in locations.found
    ]
    table_rows = [{**r, "box": " ".join(f"{a} {b}-{e - 1}" for a, (b, e) in r["box"].items())} for r in rows]
    common.answer(
        args,
        {"image": locations.image.name, "model": locations.model, "class": locations.name, "found": rows},
        common.table(table_rows) if table_rows else f"no {locations.name} stands out",
    )


def _export(args: argparse.Namespace) -> None:
    import napari_medseq as ms

    written = str(ms.export(args.model, args.out, steps=args.steps, size=tuple(args.size)))
    common.answer(args, {"written": written}, written)
