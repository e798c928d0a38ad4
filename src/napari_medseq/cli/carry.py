"""The command propagate: from a few painted steps to all steps."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from napari_medseq.cli import common
from napari_medseq.errors import SettingsError

if TYPE_CHECKING:
    from napari_medseq.inference import Propagation

_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".seg.nrrd", ".dcm")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command propagate."""
    command = common.add_command(
        commands, "propagate", "continue objects that are painted on a few slices or frames over all others"
    )
    command.add_argument("image", help="an image file or the folder of a series")
    command.add_argument("painted", help="a label file on the grid of the image; each value is one object")
    command.add_argument("-o", "--out", required=True, help=f"the label file to write ({' '.join(_VOLUMES)})")
    command.add_argument(
        "-m",
        "--model",
        default="propagate",
        help="the name or the bundle folder of a promptable model (default propagate)",
    )
    command.add_argument(
        "--axis",
        choices=("z", "y", "x", "t"),
        help="the axis along which the objects are continued (default: across the painted slices)",
    )
    command.add_argument(
        "--annotated",
        metavar="STEPS",
        help="further steps (slices or frames) whose labels are complete, even if they are empty, such as 3,40; counted from 0",
    )
    command.add_argument(
        "--steps",
        metavar="STEPS",
        help="label only these steps (slices or frames), such as 10-30 or 4,8,9; counted from 0",
    )
    command.add_argument(
        "--device", default="auto", help="where the model runs: auto (the default), cpu, cuda, cuda:N or mps"
    )
    common.add_frame(command)
    common.add_series(command)
    common.add_json(command)
    command.set_defaults(run=_propagate)


def _propagate(args: argparse.Namespace) -> None:
    import napari_medseq as ms

    if not args.out.lower().endswith(_VOLUMES):
        raise SettingsError(f"{args.out}: the file name must end in one of {' '.join(_VOLUMES)}.")
    image = common.one_image(args.image, args.series)
    painted = common.in_frame(common.labels_on(args.painted, image), image, args.frame)
    common.spare_inputs(args.out, image, painted)
    common.check_dicom(args.out, image)
    propagation = ms.propagate(
        image,
        painted,
        args.model,
        annotated=None if args.annotated is None else _steps(args.annotated, "--annotated"),
        axis=args.axis,
        steps=None if args.steps is None else _steps(args.steps, "--steps"),
        device=args.device,
        progress=common.bar(),
    )
    written = str(
        ms.write(propagation.labels, args.out, reference=args.image if args.out.lower().endswith(".dcm") else None)
    )
    facts = {
        "image": image.name,
        "model": propagation.model,
        "written": written,
        "axis": propagation.axis,
        "next_step": propagation.next_step,
        "volume_ml": _volumes(propagation),
    }
    mean = f" (mean of {image.size('t')} frames)" if propagation.labels.is_dynamic else ""
    lines = [f"{name}: {ml:.2f} mL{mean}" for name, ml in _volumes(propagation).items()]
    if propagation.next_step is not None:
        step, unit = propagation.next_step, "frame" if propagation.axis == "t" else "slice"
        lines.append(
            f"check {unit} {step} along {propagation.axis} next, counted from 0 (napari shows it as {step + 1})"
        )
    common.answer(args, facts, "\n".join([*lines, written]))


def _volumes(propagation: Propagation) -> dict[str, float]:
    """Object → mL; of a series the mean over its frames."""
    import numpy as np

    from napari_medseq.geometry import voxel_volume_mm3

    labels = propagation.labels
    data = np.asarray(labels.data)
    counts = Counter(dict(zip(*(v.tolist() for v in np.unique(data[data != 0], return_counts=True)), strict=True)))
    ml = voxel_volume_mm3(labels.affine) / 1000 / (labels.size("t") if labels.is_dynamic else 1)
    return {labels.label_names.get(v, str(v)): counts[v] * ml for v in sorted(counts)}


def _steps(text: str, option: str) -> list[int]:
    """Numbers and ranges, such as ``4,8-10``, as a list.

    Raises
    ------
    SettingsError
        If it is something else.
    """
    steps: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(last) >= int(first))):
            raise SettingsError(f"{option} {text!r} is not a list of steps, such as 3,8-10.")
        steps += range(int(first), int(last if dash else first) + 1)
    return steps
