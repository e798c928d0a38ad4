"""``napari-medseq doctor``: what is installed, which device will be used and why, and what to do about a GPU that is not."""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from napari_medseq.cli import common
from napari_medseq.errors import MedseqError

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


def add(commands: Any) -> None:
    """Add doctor."""
    doctor = commands.add_parser("doctor", help="what is installed, and which device will be used and why")
    doctor.add_argument(
        "--prefer",
        action="store_true",
        help="let napari open folders and medical files with this package without asking",
    )
    common.add_json(doctor)
    doctor.set_defaults(run=_doctor)


def _prefer(args: argparse.Namespace) -> None:
    try:
        from napari_medseq.viewer.preference import prefer

        ours, kept = prefer()
    except ImportError:
        raise MedseqError('napari is not installed here; install it with: pip install "napari-medseq[all]"') from None
    text = f"napari opens {', '.join(ours)} with napari-medseq from now on; change it in Preferences → Plugins."
    for pattern, other in kept.items():
        text += f"\n{pattern} stays with {other}, as you chose before."
    common.answer(args, {"set": ours, "kept": kept}, text)


def _doctor(args: argparse.Namespace) -> None:
    if args.prefer:
        _prefer(args)
        return
    import torch

    from napari_medseq.inference import devices

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
    facts["advice"] = advice(facts["gpus_here"], device.type, torch.version.cuda, sys.platform)
    lines = [
        f"python {facts['python']} on {facts['platform']}",
        *(f"{name} {found or 'not installed'}" for name, found in facts["packages"].items()),
        f"torch is built for {facts['torch_built_for']}; {facts['threads']} threads",
        f"GPUs here: {', '.join(facts['gpus_here']) or 'none found'}",
        f"device: {device} ({reason})",
        *([f"advice: {facts['advice']}"] if facts["advice"] else []),
    ]
    common.answer(args, facts, "\n".join(lines))


def built_for(cuda: str | None, hip: str | None) -> str:
    """What a torch build can compute on, in words."""
    if cuda:
        return f"CUDA {cuda}"
    return f"ROCm {hip}" if hip else "the CPU" + (" and Apple's GPU" if sys.platform == "darwin" else " only")


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the system's own tool lists, whether or not torch can use them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        told = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.split("(UUID")[0].strip() for line in told.stdout.splitlines() if line.startswith("GPU ")]


def advice(found: list[str], device: str, cuda: str | None, system: str) -> str:
    """What to run so that a GPU that is there but not used gets used; empty where all is well."""
    if device != "cpu" or not found:
        return ""
    if cuda:
        return (
            f"There is a GPU ({found[0]}) and torch is built for CUDA {cuda}, but it cannot use it: update the NVIDIA driver, "
            "or install a torch for an older CUDA: pip install --force-reinstall torch "
            "--index-url https://download.pytorch.org/whl/cu126"
        )
    index = (
        " --index-url https://download.pytorch.org/whl/cu128"
        if system == "win32"
        else " --index-url https://pypi.org/simple"
    )
    return (
        f"There is a GPU ({found[0]}), but this torch is built for the CPU only. To use it: "
        f"pip install --force-reinstall torch=={_version('torch', short=True)}{index}  (in a checkout: make TORCH=cuda demo)"
    )


def _version(name: str, *, short: bool = False) -> str | None:
    try:
        found = version(name)
    except PackageNotFoundError:
        return None
    return found.partition("+")[0] if short else found
