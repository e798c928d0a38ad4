"""Pseudonyms and lesion identifiers that are the same in every process of one user, and say nothing without the user's key.

The key is a file: ``pseudonyms.key`` in the user's configuration folder, or the one that the environment variable
``NAPARI_MEDSEQ_PSEUDONYMS`` (the option ``--pseudonyms``) names; it is made when it is not there. Without it nobody can find an ID
by trying all IDs. Source: RFC 2104 (HMAC), with SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import uuid
from functools import lru_cache
from pathlib import Path

from napari_medseq.errors import ReadWarning, SettingsError, warn

#: The environment variable that names a key file; processes started from this one inherit it.
VARIABLE = "NAPARI_MEDSEQ_PSEUDONYMS"
_LEAST_BYTES, _MOST_BYTES = 16, 4096
_MOST_DAYS = 3650


def use_key_file(path: str | os.PathLike[str]) -> None:
    """Take pseudonyms from a key file, here and in processes started from here; it is made if it is not there.

    Raises
    ------
    SettingsError
        If it cannot be read or made, or holds too little.
    """
    os.environ[VARIABLE] = str(Path(path).expanduser().resolve())
    _key(os.environ[VARIABLE])


def pseudonym(*identity: str) -> str:
    """A patient's pseudonym, the same wherever the key is: ``patient-`` and twelve digits."""
    return f"patient-{_mac('patient', *identity).hex()[:12]}"


def days_back(patient: str) -> int:
    """By how many days a patient's dates go back where they are shifted: 1 to 3650, the same wherever the key is."""
    return 1 + int.from_bytes(_mac("dates", patient)[:8]) % _MOST_DAYS


def lesion_uid(patient: str, value: int) -> str:
    """A UID that is the same for one patient's lesion at every visit (UUID-derived, DICOM PS3.5 B.2)."""
    return f"2.25.{uuid.UUID(bytes=_mac('lesion', patient, str(value))[:16], version=4).int}"


def _mac(*words: str) -> bytes:
    named = os.environ.get(VARIABLE)
    return hmac.new(_key(named), "|".join(words).encode(), hashlib.sha256).digest()


@lru_cache(8)
def _key(named: str | None) -> bytes:
    """The key in a file, which is made if it is not there; a passing one where the user's folder cannot be written."""
    if named is not None:
        path = Path(named)
    else:
        import platformdirs

        path = Path(platformdirs.user_config_dir("napari-medseq")) / "pseudonyms.key"
    try:
        return _read(path) if path.exists() else _made(path)
    except OSError as error:
        if named is not None:
            raise SettingsError(
                f"{path}: the key of pseudonyms cannot be read or made ({error.strerror or error})."
            ) from error
        warn(
            f"{path}: the key of pseudonyms cannot be made ({error.strerror or error}); pseudonyms differ from run to run. "
            f"Name a file that may be written with --pseudonyms or {VARIABLE}.",
            ReadWarning,
        )
        return secrets.token_bytes(32)


def _read(path: Path) -> bytes:
    content = path.read_bytes()[: _MOST_BYTES + 1].strip()
    if not _LEAST_BYTES <= len(content) <= _MOST_BYTES:
        raise SettingsError(
            f"{path}: a key of pseudonyms has {_LEAST_BYTES} to {_MOST_BYTES} bytes; choose another file or delete it."
        )
    return content


def _made(path: Path) -> bytes:
    """A new key, for the user's eyes only; of two processes at once the first one's holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_hex(32).encode()
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(key + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    except OSError:
        if not path.exists():
            os.replace(temporary, path)  # a file system without links
    finally:
        temporary.unlink(missing_ok=True)
    return _read(path)
