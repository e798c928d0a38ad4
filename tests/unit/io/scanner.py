"""A scanner that remembers what it wrote: every frame's place, moment and values, to compare with what is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import napari_medseq as ms
from tests.unit.io import dicoms


class Scanner:
    """Writes series whose content is known.

    Attributes
    ----------
    truth : mapping
        Image → list of (time point, LPS points (n, 3) of all voxels of the frame, their values (n,)).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = defaultdict(list)
        self.written = 0

    def pixels(self) -> np.ndarray:
        """Values that no other frame has."""
        self.written += 1
        return dicoms.picture(seed=self.written)

    def remember(
        self, image: str, t: int, position: Sequence[float], orientation: Sequence[float], values: np.ndarray,
        spacing: tuple[float, float] = (0.5, 0.75),
    ) -> None:  # fmt: skip
        """Note a frame: PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1."""
        down, along = np.mgrid[: values.shape[0], : values.shape[1]].reshape(2, -1, 1)
        row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
        places = np.array(position, float) + along * spacing[1] * row + down * spacing[0] * column
        self.truth[image].append((t, places, values.reshape(-1).astype(float)))

    def shot(
        self, image: str, position: Sequence[float] = (0, 0, 0), t: int = 0, orientation: Sequence[float] = dicoms.AXIAL,
        private: dict[tuple[int, int, str], tuple[int, str, Any]] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """One classic file; `private` is (group, block, creator) → (element, VR, value)."""
        values = self.pixels()
        ds = dicoms.dataset(values, position, orientation, **{"InstanceNumber": self.written, **more})
        for (group, block, creator), (element, vr, value) in (private or {}).items():
            ds.add_new(group << 16 | block, "LO", creator)
            ds.add_new(group << 16 | block << 8 | element, vr, value)
        dicoms.save(ds, self.folder / f"{(self.written * 7919) % 1000:03d}_{self.written}.dcm")
        scaled = values * float(more.get("RescaleSlope", 1)) + float(more.get("RescaleIntercept", 0))
        self.remember(image, t, position, orientation, scaled)

    def file(self, name: str, pixels: np.ndarray, **more: Any) -> None:
        """One file of many frames; say what they are with `remember`."""
        dicoms.save(dicoms.dataset(pixels, None, None, None, **more), self.folder / name)

    def enhanced(
        self, name: str, frames: list[tuple[str, int, Sequence[float], dict[str, Any]]],
        orientation: Sequence[float] | None = dicoms.AXIAL, **more: Any,
    ) -> None:  # fmt: skip
        """An enhanced file of frames (image, time point, position, functional groups), in the order given."""
        pixels = np.stack([self.pixels() for _ in frames])
        ds = dicoms.dataset(
            pixels, None, None, None, **{"SliceThickness": None, "InstanceNumber": self.written, **more}
        )
        shared: dict[str, Any] = {
            "PixelMeasuresSequence": dicoms.item(PixelSpacing=[0.5, 0.75], SliceThickness=2.5),
        }
        if orientation is not None:
            shared["PlaneOrientationSequence"] = dicoms.item(ImageOrientationPatient=list(orientation))
        ds.SharedFunctionalGroupsSequence = [dicoms.groups(**shared)]
        ds.PerFrameFunctionalGroupsSequence = []
        for values, (image, t, position, groups) in zip(pixels, frames, strict=True):
            place = {"PlanePositionSequence": dicoms.item(ImagePositionPatient=list(position))}
            ds.PerFrameFunctionalGroupsSequence.append(dicoms.groups(**{**place, **groups}))
            own = groups.get("PlaneOrientationSequence")
            turned = orientation if own is None else own.ImageOrientationPatient
            assert turned is not None
            self.remember(image, t, position, turned, values)
        dicoms.save(ds, self.folder / name)

    def check(self) -> list[ms.ImageSequence]:
        """Read the folder: one sequence per image, each voxel at its place and moment. Returns them in the order of the images."""
        found = ms.read(self.folder)
        assert len(found) == len(self.truth), [(s.name, s.sizes) for s in found]
        return [self._match(image, found) for image in self.truth]

    def _match(self, image: str, found: list[ms.ImageSequence]) -> ms.ImageSequence:
        frames = self.truth[image]
        why = []
        for seq in found:
            wrong = mismatch(seq, frames)
            if wrong is None:
                return seq
            why.append(f"{seq.name}: {wrong}")
        raise AssertionError(f"{image}: {why}")


def mismatch(seq: ms.ImageSequence, frames: list[tuple[int, np.ndarray, np.ndarray]]) -> str | None:
    """What is wrong with a sequence against the frames of an image; None if every voxel is there, and no other."""
    data = np.asarray(seq.data)
    for axis in ("z", "t"):
        if axis not in seq.axes:
            data = np.expand_dims(data, 0 if axis == "t" else data.ndim - 2)
    if data.shape[0] != max(t for t, _, _ in frames) + 1 or data.size != sum(v.size for _, _, v in frames):
        return f"shape {data.shape} for {len(frames)} frames"
    inverse = np.linalg.inv(seq.affine)
    for t, places, values in frames:
        index = (places * (-1, -1, 1)) @ inverse[:3, :3].T + inverse[:3, 3]
        near = np.rint(index).astype(int)
        if np.abs(index - near).max() > 0.02 or (near < 0).any() or (near >= seq.grid).any():
            return f"frame at {places[0]} is not on the grid"
        got = data[t, near[:, 2], near[:, 1], near[:, 0]]
        if np.abs(got - values).max() > 1e-3 * max(1.0, float(np.abs(values).max())):
            return f"values at time point {t}, {places[0]}"
    return None
