"""How numbers are spelled for people, the same in page, model card and terminal."""

from __future__ import annotations

MISSING = "–"
_KINDS = {"float": "float", "fake_quant": "fake-quant", "integer": "integer"}


def megabytes(size_bytes: int | None) -> str:
    """12_345_678 → "12.3 MB" (10⁶ bytes)."""
    return MISSING if size_bytes is None else f"{size_bytes / 1e6:,.1f} MB"


def count(number: int | None) -> str:
    """134_515_008 → "134.5 M"; below a million all digits."""
    if number is None:
        return MISSING
    if number >= 1_000_000_000:
        return f"{number / 1e9:.2f} B"
    return f"{number / 1e6:.1f} M" if number >= 1_000_000 else f"{number:,}"


def perplexity(value: float | None) -> str:
    """Two decimals up to 1000, then three significant digits."""
    if value is None:
        return MISSING
    return f"{value:.2f}" if value < 1000 else f"{value:.3g}"


def decimal(value: float | None, digits: int = 2) -> str:
    """A plain number, or the sign for a missing one."""
    return MISSING if value is None else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """0.912 → "91.2 %"."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def change(percent: float | None) -> str:
    """3.94 → "+3.9 %", with a true minus sign; without decimals from 1000 % on."""
    if percent is None:
        return MISSING
    digits = 1 if abs(percent) < 1000 else 0
    return f"{percent:+,.{digits}f} %".replace("-", "−")


def duration(seconds: float) -> str:
    """0.42 → "0.4 s", 83 → "1 min 23 s", 3725 → "1 h 02 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def compact(value: float) -> str:
    """Four significant digits at most."""
    return f"{value:,.4g}".replace("-", "−")


def kind(name: str) -> str:
    """The label of a score's kind."""
    return _KINDS[name]


def decibel(value: float | None) -> str:
    """12.34 → "12.3", no noise → "exact"."""
    return "exact" if value is None else f"{value:.1f}".replace("-", "−")
