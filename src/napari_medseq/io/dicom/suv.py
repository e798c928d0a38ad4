"""PET: the factor from the values of a series to standardized uptake values by body weight (SUVbw, g/mL).

Voxels keep the values of the file's rescaling (Bq/mL, counts). ``meta["suv_bw"]`` holds the factor if the tags allow
one, and otherwise ``meta["suv_missing"]`` holds the reason. Sources: DICOM PS3.3 C.8.9.1 (PET series) and C.8.9.2 (PET
isotope); the vendor-neutral pseudo-code of the RSNA QIBA FDG-PET/CT profile, appendix G ("happy path": decay to the
series' start).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.values import first_item, moment, number, seconds_of, stamp, text, texts

#: Philips' private element with the factor from its counts to SUVbw.
_PHILIPS_SUV = (0x7053, 0x1000)
#: Largest plausible time from injection to scan; beyond it the tags are wrong.
_LONGEST = timedelta(hours=24)
_LEAST_BQ = 1e5


def factor(ds: Attributes, acquired: Sequence[datetime] = ()) -> tuple[float | None, str]:
    """The factor from modality values to SUVbw, or the reason why there is none.

    Parameters
    ----------
    ds : data set of one slice
    acquired : sequence of datetime
        Acquisition times of the series' slices; the scan cannot begin later than the earliest one.

    Returns
    -------
    factor, reason
        The factor is None if there is a reason; the reason is "" if there is a factor.
    """
    units = text(ds, "Units").upper()
    if units == "GML":
        kind = text(ds, "SUVType").upper() or "BW"
        return (1.0, "") if kind == "BW" else (None, f"the values are SUV by {kind}, not by body weight")
    if units == "CNTS":
        scale = _philips(ds)
        return (scale, "") if scale else (None, "the values are counts without a calibration")
    if units != "BQML":
        return None, f"the units of the values are {units or 'not given'}"
    return _of_activity(ds, acquired)


def _of_activity(ds: Attributes, acquired: Sequence[datetime]) -> tuple[float | None, str]:
    """`factor` of activity concentrations in Bq/mL."""
    corrections = texts(ds, "CorrectedImage")
    missing = [c for c in ("ATTN", "DECY") if c not in corrections]
    if missing:
        return None, f"the values are not corrected for {' and '.join(missing)}"
    weight, drug = number(ds, "PatientWeight"), first_item(ds, "RadiopharmaceuticalInformationSequence")
    if drug is None:
        return None, "the injected dose is missing"
    dose, half = number(drug, "RadionuclideTotalDose"), number(drug, "RadionuclideHalfLife")
    for name, amount in (("weight", weight), ("injected dose", dose), ("half-life", half)):
        if amount is None or amount <= 0:
            return None, f"the {name} is missing"
    assert weight is not None
    assert dose is not None
    assert half is not None
    if dose < _LEAST_BQ:
        return None, f"an injected dose of {dose:g} Bq is not plausible"
    correction = text(ds, "DecayCorrection").upper()
    if correction == "ADMIN":
        return weight * 1000.0 / dose, ""
    if correction != "START":
        return None, f"the decay correction is {correction or 'not given'}"
    begun, injected = _begun(ds, acquired), _injected(ds, drug)
    if begun is None or injected is None:
        return None, "the time of the injection or of the scan is missing"
    if injected > begun:  # a clock time without a date, past midnight
        injected -= timedelta(days=1) if not text(drug, "RadiopharmaceuticalStartDateTime") else timedelta(0)
    if not timedelta(0) <= begun - injected <= _LONGEST:
        return None, "the injection does not lie within the day before the scan"
    remaining = dose * 2.0 ** (-(begun - injected).total_seconds() / half)
    return weight * 1000.0 / remaining, ""


def _begun(ds: Attributes, acquired: Sequence[datetime]) -> datetime | None:
    """Start of the series; the earliest acquisition if the series' own time is later (it was then made afterwards)."""
    series = moment(ds, "SeriesDate", "SeriesTime") if text(ds, "SeriesTime") else None
    earliest = min(acquired, default=None)
    stamps = [t for t in (series, earliest) if t is not None]
    return min(stamps, default=None)


def _injected(ds: Attributes, drug: Attributes) -> datetime | None:
    """Start of the injection, on the day of the series if only a clock time is given."""
    at = stamp(drug, "RadiopharmaceuticalStartDateTime", ds)
    clock = text(drug, "RadiopharmaceuticalStartTime")
    if at is not None or not clock:
        return at
    day, since_midnight = moment(ds, "SeriesDate", "") or moment(ds, "StudyDate", ""), seconds_of(clock)
    return None if day is None or since_midnight is None else day + timedelta(seconds=since_midnight)


def _philips(ds: Attributes) -> float | None:
    try:
        content = ds[_PHILIPS_SUV].value
        scale = float(content.decode() if isinstance(content, bytes) else content)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    return scale if 0 < scale < 1e6 else None
