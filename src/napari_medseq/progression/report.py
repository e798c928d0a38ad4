"""The report: one HTML file with everything in it, made by rules from measured facts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from napari_medseq import files, record
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.progression import plots, sentences
from napari_medseq.progression.keyslices import key_slices, lesion_slices
from napari_medseq.progression.matrix import MEASURES, visit_name
from napari_medseq.progression.response import assess

if TYPE_CHECKING:
    import pandas as pd

    from napari_medseq.models import ModelLike
    from napari_medseq.progression.tracked import Tracked

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ccc; } .note { color: #666; }
img { max-width: 100%; } table { border-collapse: collapse; font-size: 13px; } .wide { overflow-x: auto; }
th, td { border: 1px solid #ddd; padding: .2rem .4rem; text-align: right; } th { background: #f3f3f3; vertical-align: bottom; }
td { white-space: nowrap; }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .8rem; font-size: 12px; }
@media print { table { font-size: 9px; } .wide { overflow: visible; } th, td { padding: 1px 3px; } }
@media print { h2 { break-after: avoid; } img, table { break-inside: avoid; } body { max-width: none; } }
"""
#: response rule sets that fit lesions of any kind
RULES = ("volumetric",)
_LESION_COLUMNS = (
    "visit", "date", "lesion", "label", "event", "parents", "volume_ml", "volume_sd_ml", "change_percent", "smallest_change_ml",
    "real_change", "longest_mm",
    "perpendicular_mm", "longest_3d_mm", "doubling_time_days", "spread_direction", "certainty", "measured",
)  # fmt: skip


#: the matrices of the report
_MATRICES = {name: MEASURES[name] for name in ("volume (mL)", "longest diameter (mm)", "event")}


def write_report(
    progression: Tracked,
    path: Path,
    *,
    rules: Sequence[str] = RULES,
    name: str = "",
    card: str = "",
    captioner: ModelLike | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Write the report under a temporary name, then move it into place; returns `path`.

    Raises
    ------
    WriteError
        If the folder cannot be written.
    ModelError
        If `captioner` is none.
    OperationCancelled
        When `cancelled` says so; no file has changed then.
    """
    text = html(
        progression, rules=rules, name=name, card=card, captioner=captioner, progress=progress, cancelled=cancelled
    )
    return files.write_text(path, text)


def html(
    progression: Tracked,
    *,
    rules: Sequence[str] = RULES,
    name: str = "",
    card: str = "",
    captioner: ModelLike | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> str:
    """The whole report as text."""
    rule = "Text is made by rules from measured facts" + (
        ", but for what is marked as written by a model" if captioner else ""
    )
    parts = [
        f"<h1>Progression{f' of {escape(name)}' if name else ''}</h1>",
        f'<p class="note">{record.DISCLAIMER} {rule}.</p>',
    ]
    sections: list[Callable[[], list[str]]] = [
        lambda: ["<h2>In short</h2>", _list(sentences.overall(progression)), "<h2>Visits</h2>"],
        lambda: [_picture(key_slices(progression), "The slice with most lesion at each visit; outlines in lesion colours.")],
        lambda: [_table(progression.summary), *_side_by_side(progression), "<h2>Over time</h2>"],
        lambda: [_picture(plots.overview(progression), "Volume of each lesion, total burden, and life of each lesion.")],
        lambda: [_picture(_figure(plots.spaghetti, progression, relative=True), "Each lesion relative to its first visit.")],
        lambda: [_picture(_figure(plots.waterfall, progression), "Change from first to last sighting.")],
        lambda: ["<h2>Events</h2>", *_events(progression), *_responses(progression, rules)],
        lambda: _written(progression, captioner),
        lambda: _lesions(progression),
        lambda: [*_repeatability(progression), "<h2>Growth</h2>", _table(progression.growth)],
    ]  # fmt: skip
    for section in with_progress(sections, len(sections), "Writing the report", progress, cancelled):
        parts += section()
    if progression.corrections:
        parts += ["<h2>Corrected by hand</h2>", _list(progression.corrections)]
    if progression.warnings:
        parts += ["<h2>Doubts</h2>", _list(progression.warnings)]
    if card:
        parts += ["<h2>Model card</h2>", f"<pre>{escape(card)}</pre>"]
    facts = {"settings": progression.settings.model_dump(), "versions": record.versions()}
    parts += ["<h2>To repeat it</h2>", f"<pre>{escape(json.dumps(facts, indent=1))}</pre>"]
    body = "\n".join(parts)
    title = f"Progression {escape(name)}".strip()
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _lesions(progression: Tracked) -> list[str]:
    """Each lesion at each visit: some measures as matrices, then all in one table."""
    return [
        "<h2>Lesions</h2>",
        *(_matrix(progression, title, measure) for title, measure in _MATRICES.items()),
        '<p class="note">One row per lesion and visit. Visits are counted from 1 here and from 0 in lesions.csv.</p>',
        _table(progression.lesions[[c for c in _LESION_COLUMNS if c in progression.lesions]]),
    ]


def _events(progression: Tracked) -> list[str]:
    events = sentences.events(progression)
    if not events:
        return ["<p>Nothing to compare.</p>"]
    parts = []
    for visit in sorted({v for v, _, _ in events}):
        when = visit_name(visit, progression.dates)
        parts.append(f"<h3>{when[:1].upper()}{when[1:]}</h3>")
        parts.append(_list(text for v, _, text in events if v == visit))
    return parts


def _responses(progression: Tracked, rules: Sequence[str]) -> list[str]:
    parts = []
    for rule in rules:
        assessment = assess(progression, rule)
        parts.append(f"<h2>Response: {escape(assessment.rule)}</h2>")
        parts.append(f'<p class="note">{escape(assessment.source)}. {escape(assessment.note)}</p>')
        if assessment.targets:
            parts.append(
                f"<p>Targets: lesions {', '.join(str(t) for t in assessment.targets)}; measured: {escape(assessment.quantity)}.</p>"
            )
        for verdict in assessment.verdicts:
            when, category = visit_name(verdict.visit, progression.dates), sentences.spelled(verdict.category)
            parts.append(f"<h3>{when[:1].upper()}{when[1:]}: {escape(category)}</h3>{_list(verdict.reasons)}")
    return parts


def _side_by_side(progression: Tracked) -> list[str]:
    figure = lesion_slices(progression)
    if figure is None:
        return []
    text = "The lesions that changed most, at all visits side by side and at the same scale; where one is absent, its place."
    return ["<h2>Side by side</h2>", _picture(figure, text)]


def _written(progression: Tracked, captioner: ModelLike | None) -> list[str]:
    """The sentences of a captioner, if one is named: separate from everything else, and marked."""
    if captioner is None:
        return []
    from napari_medseq.progression.captions import captions

    caption = captions(progression, captioner)
    note = (
        f"The sentences of this part are generated: {caption.model} wrote them from pictures alone. Nothing in them was measured, they may "
        "be wrong, and they change nothing in the rest of this report."
    )
    return ["<h2>Written by a model</h2>", f'<p class="note">{escape(note)}</p>', _list(caption.lines)]


def _repeatability(progression: Tracked) -> list[str]:
    """The meaning of repeated measurements for the numbers above."""
    repeatability = progression.repeatability
    if repeatability is None:
        return [
            "<h2>Is a change real?</h2>",
            '<p class="note">The scan was not measured again (retest), so only the noise bound tells change from chance.</p>',
        ]
    parts = ["<h2>Is a change real?</h2>", _list(repeatability.sentences()), _table(repeatability.table)]
    if repeatability.implants:
        parts += ["<h3>Lesions that were put in, and grown</h3>", _table(repeatability.recovery)]
    return parts


def _matrix(progression: Tracked, title: str, measure: str) -> str:
    """One measure of each lesion at each visit."""
    return f"<h3>{escape(title[:1].upper() + title[1:])} of each lesion at each visit</h3>{_table(progression.matrix(measure))}"


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _table(table: pd.DataFrame) -> str:
    printed = table.copy()
    for column in printed.columns:
        if str(printed[column].dtype).startswith("datetime"):
            printed[column] = printed[column].dt.strftime("%Y-%m-%d")
    for column in printed.columns.intersection(["visit", "first_visit", "last_visit"]):
        printed[column] += 1  # people count from 1
    printed.columns = [_column_in_words(str(c)) for c in printed.columns]
    text: str = printed.to_html(index=False, na_rep="", float_format=lambda v: f"{v:.4g}", border=0)
    return f'<div class="wide">{text}</div>'


def _column_in_words(column: str) -> str:
    """A column's name for people: its unit in brackets, so that it breaks where a line is full."""
    stem, _, unit = column.rpartition("_")
    units = {"ml": "mL", "mm": "mm", "mm2": "mm²", "percent": "%", "days": "days"}
    return f"{stem.replace('_', ' ')} ({units[unit]})" if stem and unit in units else column.replace("_", " ")


def _figure(draw: Callable[..., plots.Artists], progression: Tracked, **options: bool) -> Figure:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes: Axes = figure.subplots()
    draw(progression, axes, **options)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _picture(figure: Figure, alt: str) -> str:
    """The figure inside the page, as PNG in base64: nothing is loaded from elsewhere."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    code = base64.b64encode(buffer.getvalue()).decode()
    image = f'<img alt="{escape(alt)}" src="data:image/png;base64,{code}">'
    return f'<figure>{image}<figcaption class="note">{escape(alt)}</figcaption></figure>'
