"""``napari-medseq doctor``: what is installed, which device will be used and why, and what to do about a GPU that
cannot be used."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import napari_medseq
from napari_medseq import faults
from napari_medseq.cli import common
from napari_medseq.cli.troubles import troubles
from napari_medseq.errors import MedseqError
from napari_medseq.plugins import offered

_SHOWN = (
    "napari-medseq",
    "torch",
    "monai",
    "napari",
    "PySide6",
    "PyQt6",
    "numpy",
    "pandas",
    "SimpleITK",
    "nibabel",
    "pydicom",
)


def add(commands: common.Commands) -> None:
    """Add the command doctor."""
    doctor = common.add_command(commands, "doctor", "say what is installed, and which device is used and why")
    doctor.add_argument(
        "--prefer",
        action="store_true",
        help="make napari open folders and medical files with this package without asking",
    )
    doctor.add_argument(
        "--report",
        action="store_true",
        help="print a text for a bug report: versions, device, settings and the latest failures, but nothing about patients",
    )
    common.add_json(doctor)
    doctor.set_defaults(run=_doctor)


def _prefer(args: argparse.Namespace) -> None:
    try:
        from napari_medseq.viewer.preference import prefer

        patterns, others = prefer()
    except ImportError:
        raise MedseqError('napari is not installed here; install it with: pip install "napari-medseq[all]"') from None
    text = f"napari opens {', '.join(patterns)} with napari-medseq from now on; change it in Preferences → Plugins."
    for pattern, other in others.items():
        text += f"\n{pattern} stays with {other}, as you chose before."
    common.answer(args, {"set": patterns, "kept": others}, text)


def _doctor(args: argparse.Namespace) -> None:
    if args.prefer:
        _prefer(args)
        return
    import torch

    from napari_medseq.inference.resources import devices

    device, reason = devices.choose("auto")
    facts: dict[str, Any] = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _SHOWN},
        "torch_built_for": built_for(torch.version.cuda, getattr(torch.version, "hip", None)),
        "gpus_here": gpus(),
        "device": str(device),
        "reason": reason,
        "threads": torch.get_num_threads(),
    }
    facts["troubles"] = troubles()
    facts["plugins"] = offered()
    facts["advice"] = advice(facts["gpus_here"], device.type, torch.version.cuda, sys.platform)
    lines = [
        f"python {facts['python']} on {facts['platform']}",
        *(f"{name} {version or 'not installed'}" for name, version in facts["packages"].items()),
        f"torch is built for {facts['torch_built_for']}; {facts['threads']} threads",
        f"GPUs here: {', '.join(facts['gpus_here']) or 'none found'}",
        f"device: {device} ({reason})",
        *(
            f"extension: {name} of {package} ({group})"
            for group, version in facts["plugins"].items()
            for name, package in version.items()
            if package.split()[0] != "napari-medseq"
        ),
        *([f"advice: {facts['advice']}"] if facts["advice"] else []),
        *(f"trouble: {text}" for text in facts["troubles"]),
    ]
    if args.report:
        facts = {**facts, **_for_a_report()}
        facts["troubles"] = [_without_home(text) for text in facts["troubles"]]
        common.answer(args, facts, f"```json\n{json.dumps(facts, indent=1)}\n```")
        return
    common.answer(args, facts, "\n".join(lines))


def _for_a_report() -> dict[str, Any]:
    """Settings and the latest failures."""
    from napari_medseq.models import list_models

    prefixes = ("NAPARI_MEDSEQ_", "NAPARI_", "QT_", "OMP_", "CUDA_VISIBLE_DEVICES", "XDG_")
    shipped = {
        info.name for info in list_models() if Path(info.folder).is_relative_to(Path(napari_medseq.__file__).parent)
    }
    return {
        "variables": {k: _without_home(v) for k, v in sorted(os.environ.items()) if k.startswith(prefixes)},
        "shipped_models": sorted(shipped),
        "added_models": sum(1 for info in list_models() if info.name not in shipped),
        "failures": faults.recent(),
    }


def _without_home(text: str) -> str:
    """A text in which the home folder, and thereby the user's name, is replaced by "~"."""
    try:
        return text.replace(str(Path.home()), "~") if str(Path.home()) != "/" else text
    except RuntimeError:
        return text


def built_for(cuda: str | None, hip: str | None) -> str:
    """The devices that a torch build supports, in words."""
    if cuda:
        return f"CUDA {cuda}"
    return f"ROCm {hip}" if hip else "the CPU" + (" and Apple's GPU" if sys.platform == "darwin" else " only")


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the system's own tool lists, whether or not torch can use them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.split("(UUID")[0].strip() for line in listing.stdout.splitlines() if line.startswith("GPU ")]


def advice(gpus: list[str], device: str, cuda: str | None, system: str) -> str:
    """How to make an unused GPU usable; empty if nothing has to be done."""
    if device != "cpu" or not gpus:
        return ""
    if cuda:
        return (
            f"There is a GPU ({gpus[0]}) and torch is built for CUDA {cuda}, but it cannot use it: update the NVIDIA driver, "
            "or install a torch for an older CUDA: pip install --force-reinstall torch "
            "--index-url https://download.pytorch.org/whl/cu126"
        )
    index = (
        " --index-url https://download.pytorch.org/whl/cu128"
        if system == "win32"
        else " --index-url https://pypi.org/simple"
    )
    return (
        f"There is a GPU ({gpus[0]}), but this torch is built for the CPU only. To use it: "
        f"pip install --force-reinstall torch=={_version('torch', short=True)}{index}  (in a checkout: make TORCH=cuda demo)"
    )


def _version(name: str, *, short: bool = False) -> str | None:
    try:
        installed = version(name)
    except PackageNotFoundError:
        return None
    return installed.partition("+")[0] if short else installed
