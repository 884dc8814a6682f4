"""How sure a share of successes is."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a probability (Wilson 1927, score interval), valid for few trials and near 0 or 1.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes in {trials} trials")
    share, z2 = successes / trials, Z_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)
