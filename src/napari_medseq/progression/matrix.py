"""The lesion table as a matrix, lesion × visit, and its rows filtered by what a person types.

The long form has one row per lesion and visit; the matrix has one row per lesion and a column per visit, with one measure in
the cells. Both are views of the same table, so that a number is never computed twice.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

#: what the cells of a matrix are usually asked for: words for people → column of the lesion table
MEASURES = {
    "volume (mL)": "volume_ml",
    "longest diameter (mm)": "longest_mm",
    "perpendicular diameter (mm)": "perpendicular_mm",
    "change (%)": "change_percent",
    "change (mL)": "change_ml",
    "event": "event",
}
#: words that a filter knows for columns of the lesion table
_WORDS = {
    "volume": "volume_ml",
    "ml": "volume_ml",
    "diameter": "longest_mm",
    "longest": "longest_mm",
    "perpendicular": "perpendicular_mm",
    "change": "change_percent",
    "days": "interval_days",
}
_COMPARE: dict[str, Callable[[NDArray[np.float64], float], NDArray[np.bool_]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_TERM = re.compile(r"([^\s<>=]+)\s*(<=|>=|<|>|=)\s*([^\s<>=]+)|(\S+)")
#: columns in which a word of a filter is looked for
_TEXT = ("label", "event", "parents")


def visit_name(visit: int, dates: Sequence[date | None]) -> str:
    """A visit for people: counted from 1, with how many there are, and its day where it is known.

    Examples
    --------
    >>> visit_name(0, [date(2020, 1, 31), None, None]), visit_name(2, [None, None, None])
    ('visit 1 of 3 (2020-01-31)', 'visit 3 of 3')
    """
    day = dates[visit]
    return f"visit {visit + 1} of {len(dates)}" + (f" ({day.isoformat()})" if day else "")


def visit_columns(dates: Sequence[date | None]) -> list[str]:
    """The name of each visit's column: ``visit 1 (2020-01-31)``."""
    return [f"visit {k}" + (f" ({day.isoformat()})" if day else "") for k, day in enumerate(dates, start=1)]


def matrix(lesions: pd.DataFrame, dates: Sequence[date | None], measure: str = "volume_ml") -> pd.DataFrame:
    """One row per lesion, one column per visit.

    Parameters
    ----------
    lesions : DataFrame
        The long form, one row per lesion and visit; rows may have been left out.
    dates : sequence of date or None
        One per visit.
    measure : str
        A column of the long form, such as ``"volume_ml"``, ``"longest_mm"``, ``"change_percent"`` or ``"event"``.

    Returns
    -------
    DataFrame
        Columns ``lesion``, ``label``, then one per visit, named by number (from 1) and day. Blank where the long form has no row:
        before a lesion is first seen, after the visit at which it is gone, and at visits without a mask.

    Raises
    ------
    SettingsError
        If there is no such column.
    """
    import pandas as pd

    measures = [c for c in lesions.columns if c not in ("visit", "date", "lesion", "label")]
    if measure not in measures:
        raise SettingsError(f"There is no measure {measure!r}; choose one of {', '.join(map(str, measures))}.")
    text = not pd.api.types.is_numeric_dtype(lesions[measure]) and not pd.api.types.is_bool_dtype(lesions[measure])
    wide = lesions.pivot(index="lesion", columns="visit", values=measure).reindex(columns=range(len(dates)))
    wide = wide.astype(object).where(wide.notna(), "") if text else wide.astype(float)
    wide.columns = pd.Index(visit_columns(dates))
    labels = lesions.drop_duplicates("lesion").set_index("lesion")["label"]
    wide.insert(0, "label", labels.reindex(wide.index).to_numpy())
    wide.index.name = "lesion"
    return wide.reset_index()


def chosen_rows(lesions: pd.DataFrame, text: str) -> pd.DataFrame:
    """The rows of the long form that fit a filter.

    Parameters
    ----------
    lesions : DataFrame
    text : str
        Terms, all of which must hold. A word is looked for in label, event and parents (any case); a whole number is the lesion's
        identity; ``name>number`` (also ``<``, ``<=``, ``>=``, ``=``) compares a column, named in full or as *volume*, *diameter*,
        *perpendicular*, *change* (percent), *days*; ``visit`` counts from 1, as everything that people see does.

    Returns
    -------
    DataFrame
        With the index that the rows had. Everything where `text` is blank.

    Raises
    ------
    SettingsError
        If a comparison names no column of numbers, or no number.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"lesion": [1, 2], "visit": [0, 0], "label": ["left", "right"], "event": ["new", "growing"],
    ...                      "parents": ["", "2"], "volume_ml": [0.5, 3.0]})
    >>> chosen_rows(rows, "volume>1 grow")["lesion"].tolist()
    [2]
    """
    keep = np.ones(len(lesions), bool)
    for name, sign, number, word in _TERM.findall(text):
        if sign:
            keep &= _compared(lesions, name, sign, number)
        elif word.isdecimal():
            keep &= (lesions["lesion"] == int(word)).to_numpy(bool)
        elif any(sign in word for sign in "<>="):
            raise SettingsError(f"{word!r} is no comparison; write for example volume>0.5.")
        else:
            matches = [
                lesions[c].astype(str).str.contains(word, case=False, regex=False) for c in _TEXT if c in lesions
            ]
            keep &= np.logical_or.reduce([f.to_numpy(bool) for f in matches])
    return lesions[keep]


def _compared(lesions: pd.DataFrame, name: str, sign: str, number: str) -> NDArray[np.bool_]:
    import pandas as pd

    column = next((c for c in (name.lower(), _WORDS.get(name.lower(), "")) if c in lesions), None)
    if column is None or not pd.api.types.is_numeric_dtype(lesions[column]):
        words = ", ".join(["visit", "lesion", *dict.fromkeys(_WORDS)])
        raise SettingsError(f"{name!r} is not a column of numbers; use {words}, or a column's name as in lesions.csv.")
    try:
        limit = float(number)
    except ValueError:
        raise SettingsError(
            f"{name}{sign}{number}: {number!r} is not a number; write for example volume>0.5."
        ) from None
    values = lesions[column].to_numpy(float) + (1 if column == "visit" else 0)
    return np.asarray(_COMPARE[sign](values, limit), dtype=np.bool_)
