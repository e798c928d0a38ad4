"""Files and folders before they are read: sorted by format, with a message for each that cannot be opened.

Folders are searched, archives are opened like folders, and links are followed. No file that the caller named, or that
looks like an image, is dropped without a message that says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from napari_medseq.errors import ReadError
from napari_medseq.files import path_of
from napari_medseq.io import archives, naming
from napari_medseq.io.detection import detect
from napari_medseq.io.placeholders import Placeholder, described, placeholder
from napari_medseq.wording import how_many, some

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

#: Endings that promise a medical image: such a file that is none is named in a warning.
_PROMISES = (".dcm", ".ima", ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".mgz", ".mgh")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_OTHER_ARCHIVES = {b"7z\xbc\xaf\x27\x1c": "7-Zip", b"Rar!\x1a\x07": "RAR"}
#: Files that are not read, by their ending, and the way out.
_SAVED = "an array has no place in the patient; in a script, give it one with ms.ImageSequence(array, axes, affine)"
_OTHERS = {
    ".npy": _SAVED, ".npz": _SAVED, ".mat": _SAVED, ".h5": _SAVED, ".pt": _SAVED,
    ".par": "convert Philips PAR/REC with dcm2niix", ".rec": "convert Philips PAR/REC with dcm2niix",
}  # fmt: skip
#: Kinds of files that are pictures, not scans.
PICTURES = ("picture", "tiff", "video")


class Collection:
    """Files by format, and a message for each that could not be opened.

    Attributes
    ----------
    kinds : dict of str to list of Path
    unreadable : list of str
    """

    def __init__(self) -> None:
        self.kinds: dict[str, list[Path]] = {}
        self.unreadable: list[str] = []
        self._placeholders: list[tuple[Path, Placeholder]] = []

    def add(self, path: Path) -> None:
        """A file or folder that was named.

        Raises
        ------
        ReadError
            If it does not exist, or is an archive that cannot be opened.
        """
        path = archives.located(path)
        if not path.exists() and not path.is_symlink():
            raise ReadError(f"{path}: there is no such file or folder; check the path.")
        if path.is_dir():
            self._add_folder(path)
            return
        before = len(self.unreadable) + len(self._placeholders)
        if detect(path) == "archive":
            self._add_archive(path, named=True)
        elif not self._add_file(path) and len(self.unreadable) + len(self._placeholders) == before:
            self.unreadable.append(f"{path}: this is not an image that can be read ({_why_not(path)}).")

    def _add_folder(self, folder: Path) -> None:
        inside = Collection()
        for file in walk(folder, self.unreadable):
            inside._add_file(file)
        if any(kind not in PICTURES for kind in inside.kinds):  # a thumbnail beside a scan is not an image of its own
            pictures = {kind: inside.kinds.pop(kind, []) for kind in PICTURES}
            if others := [*pictures["tiff"], *pictures["video"]]:
                inside.unreadable.append(
                    f"{folder}: {how_many(len(others), 'TIFF or video file')} beside scans left out ({some([p.name for p in others])}); "
                    "open them by their own names."
                )
        self._take(inside)

    def _add_archive(self, path: Path, *, named: bool) -> None:
        try:
            folder, problems = archives.unpacked(path)
        except ReadError as error:
            if named:
                raise
            self.unreadable.append(str(error))
            return
        except OSError as error:
            self.unreadable.append(f"{path}: cannot be read ({error.strerror or error}).")
            return
        self.unreadable.extend(problems)
        self._add_folder(folder)

    def _add_file(self, file: Path) -> bool:
        kind = detect(file)
        lower = file.name.lower()
        if kind == "archive":
            self._add_archive(file, named=False)
            return True
        if kind is None:
            sort = placeholder(file)
            if sort is not None:
                self._placeholders.append((file, sort))
            elif lower.endswith((*_PROMISES, *_ARCHIVES)):
                self.unreadable.append(f"{file}: {_why_not(file)}; it was left out.")
            return False
        if kind == "nifti" and lower.removesuffix(".gz").endswith(".img"):
            base = str(file.with_name(naming.stem(file)))
            header = next((p for e in (".hdr", ".HDR", ".hdr.gz") if (p := Path(base + e)).is_file()), None)
            if header is not None:  # the pair is read through its header
                self.kinds.setdefault("nifti", []).append(header)
                return True
            if not lower.endswith(".gz"):
                self.unreadable.append(f"{file}: the .hdr file of the pair is missing; put both side by side.")
                return False
        self.kinds.setdefault(kind, []).append(file)
        return True

    def _take(self, inside: Collection) -> None:
        for kind, files in inside.kinds.items():
            self.kinds.setdefault(kind, []).extend(files)
        self.unreadable.extend(inside.unreadable)
        self._placeholders.extend(inside._placeholders)

    def finished(self) -> tuple[dict[str, list[Path]], list[str]]:
        """The files by format, each once, and all messages."""
        kinds = {kind: list(dict.fromkeys(files)) for kind, files in self.kinds.items() if files}
        return kinds, [archives.shown(line) for line in (*self.unreadable, *described(self._placeholders))]


def collect(paths: Paths) -> tuple[dict[str, list[Path]], list[str]]:
    """Files by kind, folders and archives searched through, and what should be an image but cannot be opened.

    Raises
    ------
    ReadError
        If a path does not exist, or a named archive is encrypted, damaged or a bomb.
    """
    given: object = paths
    entries: list[Path] = []
    for entry in given if isinstance(given, Iterable) and not isinstance(given, (str, bytes, os.PathLike)) else [given]:
        if not isinstance(entry, (str, os.PathLike)):
            raise ReadError(f"{type(entry).__name__} is not a path; name a file, a folder or a list of files.")
        entries.append(path_of(entry))
    if not entries:
        raise ReadError("No file was given; name a file, a folder or a list of files.")
    out = Collection()
    for entry in entries:
        out.add(entry)
    return out.finished()


def looks_like_image(path: Path) -> bool:
    """Whether a file is an image or an archive, or promises by its name to be a medical image."""
    return detect(path) is not None or path.name.lower().endswith(_PROMISES)


def walk(folder: Path, unreadable: list[str] | None = None) -> Iterator[Path]:
    """All files under a folder, in order of name; hidden ones are left out, linked folders are entered once.

    Parameters
    ----------
    folder : Path
    unreadable : list of str, optional
        Takes a line for each folder that cannot be listed.
    """
    lines = unreadable if unreadable is not None else []
    try:
        facts = os.stat(folder)
        seen = {(facts.st_dev, facts.st_ino)}
    except OSError:
        seen = set()

    def failed(error: OSError) -> None:
        lines.append(
            f"{error.filename}: this folder cannot be listed ({error.strerror or error}); its files are missing."
        )

    for root, folders, files in os.walk(folder, onerror=failed, followlinks=True):
        inside = []
        for name in sorted(f for f in folders if not f.startswith(".")):
            try:
                facts = os.stat(os.path.join(root, name))
            except OSError as error:
                failed(error)
                continue
            if (facts.st_dev, facts.st_ino) not in seen:
                seen.add((facts.st_dev, facts.st_ino))
                inside.append(name)
        folders[:] = inside
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(root, name)


def _why_not(file: Path) -> str:
    """The reason why a file that should be an image cannot be read."""
    try:
        if file.stat().st_size == 0:
            return "it is empty (zero bytes)"
        if not file.is_file():
            return "it is not a regular file"
        with open(file, "rb") as stream:
            start = stream.read(8)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error}); check who may read it"
    for magic, name in _OTHER_ARCHIVES.items():
        if start.startswith(magic):
            return f"it is a {name} archive; unpack it first"
    if file.name.lower().endswith((*_PROMISES, *_ARCHIVES)):
        return "its content is not what its name says: copy or export it again"
    known = "DICOM, NIfTI, NRRD, MetaImage, MGH, TIFF, pictures and videos are read"
    return f"its first bytes are of no known format; {known}; {_OTHERS.get(file.suffix.lower(), 'convert it to one of them')}"
