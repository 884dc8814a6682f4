"""Sixteen bits where they pay: wider inputs for the few down projections that need them, narrower islands elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mobilequant.errors import DataError
from mobilequant.methods.session import SESSION, Session, SessionMethod
from mobilequant.methods.state import require_ranges
from mobilequant.models.quantized import QuantizedModel
from mobilequant.numerics.qparams import QParams
from mobilequant.pipeline import parallel
from mobilequant.pipeline.method import FrozenConfig, Need, Result, Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.divergence import HeldOut
from mobilequant.solvers.narrowing import affordable, eight_bit_ranges, islands, longest_within
from mobilequant.solvers.sensitivity import choose_sixteen_bit, per_element, rounding_costs, sixteen_bit_ranges

Island = Literal["scores", "capped", "o", "down", "attn_post_norm", "mlp_post_norm"]

CHOICE_WINDOWS = 2  # windows on which single points are compared
HELD_OUT = 4  # one window in so many is held out


class SixteenBitConfig(FrozenConfig):
    """How many points change their width."""

    fraction_of_down: float = Field(
        0.1, ge=0.0, le=1.0, description="At most this part of the layers gets a 16-bit input of down, costliest first."
    )
    remove: tuple[Island, ...] = Field(
        (), description="Roles whose 16-bit points get 8 bits where that costs least per element."
    )
    max_kl_increase: float = Field(
        0.002, ge=0.0, description="Nats per token that all of remove may cost, as a sum and on held-out windows."
    )


class SixteenBit(SessionMethod[SixteenBitConfig]):
    """Ranks points by what rounding each alone does to the logits. Needs ranges in front of it."""

    name: ClassVar[str] = "sixteen_bit"
    rounds: ClassVar[bool] = False
    Config: ClassVar[type[FrozenConfig]] = SixteenBitConfig

    def apply(self, unit: Unit, stats: Mapping[Need, Any], scheme: Scheme, rng: torch.Generator) -> Result:
        """Parameters of the points that change their width, and how many these are.

        Raises:
            UsageError: there are no ranges yet.
            DataError: no window is left to hold out.
        """
        session: Session = stats[SESSION]
        require_ranges(session.state, self.name)
        wide = _once(session, "widened", lambda: Result(activations=self._widened(session))).activations
        measures: dict[str, float] = {"sixteen_bit": len(wide)}
        if not self.config.remove:
            return Result(activations=wide, measures=measures)
        state = _with(session.state, wide)
        narrow, found = self._narrowed(session, state)
        return Result(activations={**wide, **narrow}, measures={**measures, **found})

    def _widened(self, session: Session) -> dict[str, QParams]:
        state, windows, track = session.state, session.windows, session.track
        fraction = self.config.fraction_of_down
        points = parallel.same(choose_sixteen_bit(state, windows[:CHOICE_WINDOWS], fraction=fraction, track=track))
        return sixteen_bit_ranges(state, windows, points, track=track)

    def _narrowed(self, session: Session, state: QuantizedModel) -> tuple[dict[str, QParams], dict[str, float]]:
        """The islands that are given up, and the divergence on held-out windows before and after."""
        seen, held_out = _split(session.windows)
        ranked = _once(session, "islands", lambda: self._ranked(session, state, seen))
        formats, costs = ranked.activations, ranked.measures
        points = affordable(costs, per_element(state, seen, costs), self.config.max_kl_increase)
        judge = HeldOut(state, held_out)
        measured = {0: judge.divergence(state)}

        def measure(opening: Sequence[str]) -> float:
            found = judge.divergence(_with(state, {name: formats[name] for name in opening}))
            measured[len(opening)] = found
            return found

        chosen = longest_within(points, measure, measured[0] + self.config.max_kl_increase)
        found = {"eight_bit": len(chosen), "kl_before": measured[0], "kl_after": measured[len(chosen)]}
        return {name: formats[name] for name in chosen}, found

    def _ranked(self, session: Session, state: QuantizedModel, windows: Tensor) -> Result:
        """8-bit parameters of every island, and as measures what each costs alone."""
        points = islands(state, self.config.remove)
        formats = eight_bit_ranges(state, windows, points, track=session.track)
        costs = rounding_costs(state, windows[:CHOICE_WINDOWS], formats, track=session.track)
        return Result(activations=formats, measures=costs)


def _once(session: Session, name: str, compute: Callable[[], Result]) -> Result:
    """A part of the work that a resumed run does not do again."""
    found = session.recall(name)
    if found is None:
        found = compute()
        session.keep(name, found)
    return found


def _with(state: QuantizedModel, activations: Mapping[str, QParams]) -> QuantizedModel:
    return replace(state, activations={**state.activations, **activations})


def _split(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Windows (N, T) to look at, and the last quarter, on which the choice is checked."""
    if len(windows) == 1:
        raise DataError("one calibration window leaves none to hold out", "Set data.count to 2 or more.")
    count = max(1, len(windows) // HELD_OUT)
    return windows[:-count], windows[-count:]
