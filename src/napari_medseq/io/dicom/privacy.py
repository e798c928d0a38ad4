"""What may be shown of a header: pseudonyms for patients, and free text without the identifiers of that header.

People type names, dates of birth and case numbers into descriptions and labels. Removed are the words of all names and
identifiers in the header (of the patient, of doctors, of the institution), dates, and long numbers.
"""

from __future__ import annotations

import re

from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.tags import SECRETS
from napari_medseq.io.dicom.values import text, value
from napari_medseq.io.pseudonyms import pseudonym as keyed

#: Words of a name up to this length are too common to be removed from descriptions.
_SHORT = 2
_WORDS = re.compile(r"[\^=\\,;:/()\[\]\s._-]+")
_DATES = re.compile(
    r"(?<!\d)(?:(?:1[89]|20)\d\d[-_./ ]?(?:0[1-9]|1[0-2])[-_./ ]?(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])[-_./](?:0?[1-9]|[12]\d|3[01])[-_./](?:(?:1[89]|20)\d\d|\d\d))(?!\d)"
)
_LONG_NUMBERS = re.compile(r"(?<!\d)\d{6,}(?!\d)")
#: Words of institutions' names that also describe what is imaged.
_COMMON = frozenset(("the", "and", "von", "van", "der", "den", "head", "body", "brain", "breast", "heart", "chest", "center", "centre",
                     "mri", "imaging", "none", "unknown", "anonymous", "anonymized", "anon", "test"))  # fmt: skip


def pseudonym(ds: Attributes) -> str:
    """A name for the patient that is the same for all of their files in every process of one user, and reveals
    nothing."""
    return keyed(text(ds, "PatientID"), text(ds, "PatientName"))


def without_identifiers(description: str, ds: Attributes) -> str:
    """Free text of a header without names and identifiers in the same header, dates, and long numbers."""
    if not description:
        return ""
    for word in sorted(_secret_words(ds), key=len, reverse=True):
        alone = (
            r"(?<![^\W\d_])" + re.escape(word) + r"(?![^\W\d_])"
            if word.isalpha()
            else r"(?<![^\W_])" + re.escape(word) + r"(?![^\W_])"
        )
        description = re.sub(alone, " ", description, flags=re.IGNORECASE)
    return " ".join(_LONG_NUMBERS.sub(" ", _DATES.sub(" ", description)).split())


def _secret_words(ds: Attributes) -> set[str]:
    """Whole values and single words of all names and identifiers in a header, and the words of a name written
    together."""
    words: set[str] = set()
    for keyword in SECRETS:
        content = value(ds, keyword)
        for secret in content if isinstance(content, (list, tuple)) else [content]:
            whole = str(secret or "").strip()
            parts = [p for p in _WORDS.split(whole) if len(p) > _SHORT and p.lower() not in _COMMON]
            words.update(parts)
            if len(whole) > _SHORT and whole.lower() not in _COMMON:
                words.add(whole)
            if keyword == "PatientName":
                words.update(a + b for a in parts for b in parts if a != b)
    return words
