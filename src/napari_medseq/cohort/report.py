"""The report of a cohort: one HTML file with the burden over time, response, outliers and failures, linked to each
patient."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from html import escape
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from napari_medseq import files
from napari_medseq.cohort.patient import RULE, Row
from napari_medseq.cohort.tables import frame, visit_tables
from napari_medseq.record import DISCLAIMER
from napari_medseq.wording import how_many

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h2 { margin-top: 2.2rem; border-bottom: 1px solid #ccc; } .note { color: #666; } img { max-width: 100%; }
table { border-collapse: collapse; font-size: 13px; } th, td { border: 1px solid #ddd; padding: .2rem .4rem; text-align: left; }
th { background: #f3f3f3; } td.n { text-align: right; }
"""
#: robust z above which a change is an outlier (Iglewicz & Hoaglin 1993, How to Detect and Handle Outliers)
_OUTLIER_Z = 3.5
#: factor that makes the median absolute deviation consistent for a normal distribution
_MAD_TO_SD = 1.4826
#: largest number of patients that are drawn as lines of their own, and listed in one table
_MOST_DRAWN, _MOST_LISTED = 500, 1000
_REPORT = "report.html"  # of one patient
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def write_cohort_report(rows: Sequence[Row], path: Path) -> Path:
    """Write the report, whole or not at all.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    table = frame(rows)
    change = _log_change(table)
    reports = {str(study) for study in table["study"] if (path.parent / str(study) / _REPORT).is_file()}
    parts = [
        "<h1>Cohort</h1>",
        f'<p class="note">{DISCLAIMER}</p>',
        "<h2>In short</h2>",
        _list(_in_short(table)),
        "<h2>Failures</h2>",
        *_failures(table, reports),
        "<h2>Burden over time</h2>",
        _picture(_burden(rows), "Total volume of each patient since the first visit."),
        "<h2>Change of burden</h2>",
        _picture(_waterfall(table), "Change from the first to the last visit, one bar per patient."),
        f"<h2>Response ({escape(RULE)}, last visit)</h2>",
        _list(
            f"{name or 'nothing to compare'}: {n}" for name, n in Counter(table["response"].fillna("")).most_common()
        ),
        "<h2>Outliers</h2>",
        *_outliers(table, change, reports),
        "<h2>Patients</h2>",
        *_patients(table, reports),
    ]
    head = f'<meta charset="utf-8"><title>Cohort</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return files.write_text(
        path, f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
    )


def _in_short(table: pd.DataFrame) -> list[str]:
    states = Counter(table["status"])
    lines = [
        f"{how_many(len(table), 'patient')}: " + ", ".join(f"{n} {state}" for state, n in states.most_common()) + "."
    ]
    lacking = int((table["dropped"].fillna(0) > 0).sum())
    if lacking:
        lines.append(f"{lacking} patient{'s lack' if lacking > 1 else ' lacks'} visits that could not be read.")
    burden = table["last_ml"].dropna()
    if len(burden):
        low, middle, high = np.percentile(burden, (25, 50, 75))
        lines.append(f"Burden at the last visit: median {middle:.3g} mL (quartiles {low:.3g} to {high:.3g}).")
    return lines


def _failures(table: pd.DataFrame, reports: Set[str]) -> list[str]:
    bad = table[(table["status"] == "failed") | (table["dropped"].fillna(0) > 0)]
    if bad.empty:
        return ["<p>None.</p>"]
    rows = [[_link(str(s), reports), _text(state), _text(why)] for s, state, why in _triples(bad, "status", "error")]
    return [_table(["patient", "status", "reason"], rows[:_MOST_LISTED]), *_more(rows)]


def _patients(table: pd.DataFrame, reports: Set[str]) -> list[str]:
    names = ["status", "visits", "lesions", "first_ml", "last_ml", "response", "warnings"]
    rows = [
        [_link(str(values[0]), reports), *(_text(v) for v in values[1:])]
        for values in table[["study", *names]].itertuples(index=False)
    ]
    heads = ["patient", "status", "visits", "lesions", "first (mL)", "last (mL)", "response", "doubts"]
    return [_table(heads, rows[:_MOST_LISTED]), *_more(rows)]


def _outliers(table: pd.DataFrame, change: pd.Series[float], reports: Set[str]) -> list[str]:
    """Patients whose burden changed far more, or less, than that of the others."""
    finite = change.dropna()
    spread = _MAD_TO_SD * float(np.median(np.abs(finite - finite.median()))) if len(finite) else 0.0
    if not spread > 0:
        return ["<p>Too few patients with a change to compare.</p>"]
    z = (change - finite.median()) / spread
    far = table[z.abs() > _OUTLIER_Z]
    if far.empty:
        return [f"<p>None (robust z over {_OUTLIER_Z}).</p>"]
    rows = [
        [_link(str(study), reports), f"{100 * float(np.expm1(value)):+.0f} %", f"{score:+.1f}"]
        for study, value, score in zip(far["study"], change[far.index], z[far.index], strict=True)
    ]
    return [_table(["patient", "change of burden", "robust z"], rows[:_MOST_LISTED]), *_more(rows)]


def _log_change(table: pd.DataFrame) -> pd.Series[float]:
    """Natural logarithm of last over first burden; NaN where either is 0 or unknown."""
    measurable = (table["first_ml"] > 0) & (table["last_ml"] > 0) & (table["visits"].fillna(0) > 1)
    ratio = (table["last_ml"] / table["first_ml"]).where(measurable.astype(bool))
    return pd.Series(np.log(ratio), index=table.index)


def _burden(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for drawn, (_, visits) in enumerate(visit_tables(rows)):
        if drawn == _MOST_DRAWN:
            axes.set_title(f"the first {_MOST_DRAWN} of {len(rows)} patients", fontsize=9)
            break
        dated = visits["days"].notna().all()
        x = visits["days"] if dated else visits["visit"] * np.nan
        axes.plot(
            x, visits["volume_ml"], color="C0", alpha=max(0.08, min(0.8, 20 / len(rows))), marker=".", linewidth=1
        )
    axes.set_xlabel("days since the first visit (patients without dates are not drawn)")
    axes.set_ylabel("burden (mL)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _waterfall(table: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots()
    change = 100 * np.expm1(_log_change(table).dropna().sort_values(ascending=False))
    axes.bar(np.arange(len(change)), change, color=["C3" if c > 0 else "C0" for c in change], width=1.0)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_ylabel("change of burden (%)")
    axes.set_xticks([])
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _triples(table: pd.DataFrame, one: str, other: str) -> Iterable[tuple[object, object, object]]:
    return zip(table["study"], table[one], table[other], strict=True)


def _text(value: object) -> str:
    """The text of a cell: blank if unknown, four digits for a number, no control characters."""
    if value is None or value is pd.NA or value != value:
        return ""
    return escape(_CONTROL.sub(" ", f"{value:.4g}" if isinstance(value, float) else str(value)))


def _link(study: str, reports: Set[str]) -> str:
    """The patient's name, linked to the report in its folder where there is one: one that failed has none."""
    if study not in reports:
        return _text(study)
    place = quote(study.encode("utf-8", "surrogateescape"))
    return f'<a href="{place}/{_REPORT}">{_text(study)}</a>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _more(rows: Sequence[Sequence[str]]) -> list[str]:
    unlisted = len(rows) - _MOST_LISTED
    return [f'<p class="note">… and {unlisted} more, in cohort.csv.</p>'] if unlisted > 0 else []


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _picture(figure: Figure, alt: str) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    code = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{code}"><p class="note">{escape(alt)}</p>'
