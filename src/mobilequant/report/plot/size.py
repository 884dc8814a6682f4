"""What the bytes are spent on, role by role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes

from mobilequant.report.plot.canvas import INK, SERIES, figure, label, styled, to_svg
from mobilequant.report.schema import SchemeInfo

_MEGA = 1e6
_OWN_COLOURS = 7  # the largest roles; the last colour is for all others together
_OTHER = "other"


@styled
def size_plot(schemes: Sequence[SchemeInfo]) -> str | None:
    """One stacked bar per scheme; None if no scheme lists its sizes."""
    listed = [scheme for scheme in schemes if scheme.sizes]
    if not listed:
        return None
    roles = largest_roles(listed)
    made, (axes,) = figure(8.6, 1.15 + 0.5 * len(listed))
    for height, scheme in enumerate(listed):
        _bar(axes, height, scheme, roles)
    axes.set_yticks(range(len(listed)), [label(scheme.name) for scheme in listed])
    axes.invert_yaxis()
    axes.set_xlabel("megabytes on disk")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    handles, labels = axes.get_legend_handles_labels()
    first = dict(zip(labels, handles, strict=True))
    made.legend(first.values(), first.keys(), loc="outside lower center", ncols=8, fontsize=9, handlelength=1)
    return to_svg(made, "size", "Bytes of each role")


def largest_roles(schemes: Sequence[SchemeInfo]) -> list[str]:
    """Roles that get a colour of their own, in the order in which they are listed."""
    total: Counter[str] = Counter()
    for scheme in schemes:
        total.update({size.role: size.size_bytes for size in scheme.sizes})
    kept = {role for role, _ in total.most_common(_OWN_COLOURS)}
    return [role for role in total if role in kept]


def _bar(axes: Axes, height: int, scheme: SchemeInfo, roles: Sequence[str]) -> None:
    size_of: Counter[str] = Counter()
    for size in scheme.sizes:
        size_of[size.role if size.role in roles else _OTHER] += size.size_bytes
    left = 0.0
    for role, colour in zip((*roles, _OTHER), SERIES, strict=False):
        width = size_of[role] / _MEGA
        if width:
            axes.barh(height, width, left=left, height=0.62, color=colour, edgecolor="none", label=label(role))
        left += width
    total = f"{left:.1f} MB"
    axes.annotate(total, (left, height), xytext=(5, 0), textcoords="offset points", va="center", ha="left")
