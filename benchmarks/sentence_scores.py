"""Scores of generated sentences against the true ones: BLEU, a consensus score in the manner of CIDEr, and facts that are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from napari_medseq.errors import SettingsError
from napari_medseq.models.captioner import words

_MOST = 4


def _grams(text: str, n: int) -> Counter[tuple[str, ...]]:
    tokens = words(text)
    return Counter(tuple(tokens[k : k + n]) for k in range(len(tokens) - n + 1))


def _paired(found: Sequence[str], true: Sequence[str]) -> None:
    if len(found) != len(true) or not len(found):
        raise SettingsError(f"{len(found)} sentences and {len(true)} true ones; give one true sentence per sentence.")


def bleu(found: Sequence[str], true: Sequence[str]) -> float:
    """BLEU-4 of a corpus with one reference each, 0 to 1 (Papineni et al. 2002, doi:10.3115/1073083.1073135).

    Raises
    ------
    SettingsError
        If the numbers differ or there is none.
    """
    _paired(found, true)
    logs = []
    for n in range(1, _MOST + 1):
        right = sum((_grams(f, n) & _grams(t, n)).total() for f, t in zip(found, true, strict=True))
        every = sum(_grams(f, n).total() for f in found)
        if not right:
            return 0.0
        logs.append(np.log(right / every))
    length, wanted = sum(len(words(f)) for f in found), sum(len(words(t)) for t in true)
    return float(np.exp(np.mean(logs) + min(0.0, 1 - wanted / length)))


def cider(found: Sequence[str], true: Sequence[str]) -> float:
    """Mean cosine of rarity-weighted n-grams (n = 1 to 4), 0 to 10, in the manner of CIDEr (Vedantam et al. 2015, arXiv:1411.5726).

    Rarity is counted over the true sentences; there is one reference each and no stemming, so numbers compare within a benchmark only.

    Raises
    ------
    SettingsError
        If the numbers differ or there is none.
    """
    _paired(found, true)
    scores = np.zeros(len(true))
    for n in range(1, _MOST + 1):
        held = Counter(gram for t in true for gram in set(_grams(t, n)))

        def weighted(text: str, n: int = n, held: Counter[tuple[str, ...]] = held) -> dict[tuple[str, ...], float]:
            grams = _grams(text, n)
            return {g: c / grams.total() * np.log(len(true) / max(held[g], 1)) for g, c in grams.items()}

        for k, (f, t) in enumerate(zip(found, true, strict=True)):
            a, b = weighted(f), weighted(t)
            size = np.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
            scores[k] += sum(v * b.get(g, 0.0) for g, v in a.items()) / size if size > 0 else float(f == t)
    return float(10 * scores.mean() / _MOST)


def facts_right(found: Sequence[str], true: Sequence[str], facts: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Per fact, the share of sentences that say of it what the true sentence says.

    Parameters
    ----------
    facts : dict of str to sequence of str
        Words that tell a fact's values apart, such as ``{"side": ["left", "right"]}``. A sentence states the values whose words it holds;
        it is right if it states the same ones.

    Raises
    ------
    SettingsError
        If the numbers differ or there is none.
    """
    _paired(found, true)
    stated = {
        name: [[set(words(text)) & set(values) for text in side] for side in (found, true)]
        for name, values in facts.items()
    }
    return {name: float(np.mean([f == t for f, t in zip(*sides, strict=True)])) for name, sides in stated.items()}
