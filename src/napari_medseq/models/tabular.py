"""Fusion of clinical values from a table (age, sex, laboratory, genomics), any of which may be missing, with image
features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from napari_medseq.errors import ModelError

#: what stands for a missing value in a table
_MISSING = ("", "na", "n/a", "nan", "none", "null", "?")


class TabularBranch(nn.Module):
    """Scales and shifts the features of an exam by its table values (FiLM; Perez et al. 2018, arXiv:1709.07871, eq. 1).

    A value enters standardised, beside a mark that says whether it is there; a missing one is NaN. The last layer starts at zero,
    so that an untrained branch leaves the images' answer as it is.

    Parameters
    ----------
    values : int
        Values per exam.
    features : int
        Size of the exam's vector.
    hidden : int
    hide : float
        Share of the values that is hidden at random in training, so that missing ones are no surprise.
    """

    def __init__(self, values: int, features: int, hidden: int = 32, hide: float = 0.2) -> None:
        super().__init__()
        if values < 1 or not 0 <= hide < 1:
            raise ModelError(f"A table of {values} values with a share of {hide} hidden cannot be used.")
        self.values, self.hide = values, hide
        self.register_buffer("centre", torch.zeros(values))
        self.register_buffer("spread", torch.ones(values))
        self.read = nn.Sequential(nn.Linear(2 * values, hidden), nn.SiLU())
        self.film = nn.Linear(hidden, 2 * features)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    @torch.no_grad()
    def standardise(self, table: Tensor) -> None:
        """Take mean and standard deviation of each value from a table (exam, value) of training exams; NaN is left out."""
        if table.ndim != 2 or table.shape[1] != self.values:
            raise ModelError(f"The table has shape {tuple(table.shape)}; it must be (exams, {self.values}).")
        is_known = table.isfinite()
        count = is_known.sum(0).clamp_min(1)
        centre = torch.where(is_known, table, torch.zeros_like(table)).sum(0) / count
        squares = torch.where(is_known, table - centre, torch.zeros_like(table)).square().sum(0) / count
        cast(Tensor, self.centre).copy_(centre)
        cast(Tensor, self.spread).copy_(torch.where(squares > 0, squares.sqrt(), torch.ones_like(squares)))

    def forward(self, exam: Tensor, values: Tensor | None) -> Tensor:
        """The exam's vector (batch, features), changed by its values (batch, value); None: all are missing."""
        if values is None:
            values = exam.new_full((len(exam), self.values), torch.nan)
        if values.shape != (len(exam), self.values):
            raise ModelError(f"The table has shape {tuple(values.shape)}; it must be {(len(exam), self.values)}.")
        is_known = values.isfinite()
        if self.training and self.hide > 0:
            is_known = is_known & (torch.rand_like(values) >= self.hide)
        z = (values - cast(Tensor, self.centre)) / cast(Tensor, self.spread)
        z = torch.where(is_known, z, torch.zeros_like(z))
        scale, shift = self.film(self.read(torch.cat([z, is_known.to(z.dtype)], 1).to(exam.dtype))).chunk(2, 1)
        changed: Tensor = exam * (1 + scale) + shift
        return changed


def value(row: Mapping[str, float | str], name: str) -> float:
    """The value called `name` in a row of the table (column → number or word, or value → number); NaN where it is
    missing.

    Raises
    ------
    ModelError
        If a value is not a number.
    """
    column, is_word, word = name.partition("=")
    entry = row.get(name, row.get(column))
    if entry is None or (isinstance(entry, str) and is_missing(entry)):
        return math.nan
    if is_word and name not in row:
        if isinstance(entry, float) and math.isnan(entry):
            return math.nan
        return float(str(entry).strip() == word)
    try:
        return float(entry)
    except (TypeError, ValueError):
        raise ModelError(f"The value of {name} is {entry!r}, which is not a number.") from None


def is_missing(word: str) -> bool:
    """Whether a cell of a table says that its value is missing."""
    return word.strip().lower() in _MISSING
