"""Do the days between two visits say anything that `ms.propagate` could use? What `propagate.py` measured, beside the days.

    python benchmarks/propagate_days.py

Reads ``docs/benchmarks/propagate.json`` and the dates of the visits. Spearman's correlation and an exact permutation test: of the days
with how well the earlier mask fits as it is (would they be worth telling?), and with what the network gains over it (does it lack them?).
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from propagate_cases import HERE, visit_pairs

ROWS = HERE.parent / "docs" / "benchmarks" / "propagate.json"


def correlated(days: NDArray[np.float64], value: NDArray[np.float64]) -> tuple[float, float]:
    """Spearman's correlation, and the share of all orders of the patients that give one as strong."""
    first, second = stats.zscore(stats.rankdata(days)), stats.zscore(stats.rankdata(value))

    def rho(x: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.asarray((x * second).mean(axis))

    found = stats.permutation_test((first,), rho, permutation_type="pairings", vectorized=True, n_resamples=50_000)
    return float(found.statistic), float(found.pvalue)


def main() -> None:
    rows = [r for r in json.loads(ROWS.read_text(encoding="utf-8"))["rows"] if r["part"] == "visits"]
    dice = {(r["case"], r["method"]): float(r["dice"]) for r in rows}
    days, mask, network = list[float](), list[float](), list[float]()
    print("| patient | days between | earlier mask | network |\n|---|---:|---:|---:|")
    for patient, (first, second, *_) in visit_pairs():
        if (patient, "network") not in dice or first.date is None or second.date is None:
            continue
        days.append(float((second.date - first.date).days))
        mask.append(dice[patient, "earlier mask"])
        network.append(dice[patient, "network"])
        print(f"| {patient} | {days[-1]:.0f} | {mask[-1]:.3f} | {network[-1]:.3f} |")
    print("\n| days with | Spearman's correlation | p |\n|---|---:|---:|")
    apart, gained = np.array(days), np.array(network) - np.array(mask)
    for name, value in (("Dice of the earlier mask", np.array(mask)), ("what the network gains over it", gained)):
        rho, p = correlated(apart, value)
        print(f"| {name} | {rho:+.2f} | {p:.2f} |")


if __name__ == "__main__":
    main()
