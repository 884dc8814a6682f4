"""The quantized model as it grows: taking in results, and knowing what is stale or missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from mobilequant.arch import point
from mobilequant.errors import UsageError
from mobilequant.models.decoder import compute_prefix
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.pipeline.method import Result
from mobilequant.transforms.rewrite import changes

_NAMED = 3  # how many missing names an error lists


class Workpiece:
    """The quantized model as it grows.

    It alone holds the model: a tensor that is replaced is freed at once, and nothing ever needs a second copy of all of
    them (ADR 0015). So nobody may keep ``state`` while something is taken in that changes tensors.
    """

    def __init__(self, state: QuantizedModel) -> None:
        self.state = state
        self._model_changed = False

    def take_in(self, method: str, result: Result) -> None:
        """The result of one unit of ``method``; a tied lm_head follows "embed", the scheme the formats of activations.

        A result that comes back from a checkpoint lies on the CPU, whatever the device of the run.

        Raises:
            UsageError: the result changes a tensor whose codes or range are already fixed, and brings no new ones.
        """
        for rewrite in result.rewrites:
            for change in changes(rewrite, self.state.model.arch):
                self._replace(method, change(self.state.model.tensors), result)
        result = result.to(self.state.model.device)
        self._replace(method, result.tensors, result)
        if result.norm:
            self._set_model(self.state.model.with_rms_norms())
        self._add(result)

    def refresh_prefix(self) -> None:
        """Compute the entries of the prefix anew if the model is another one than they were computed with."""
        if self.state.prefix and self._model_changed:
            self.state = replace(self.state, prefix=compute_prefix(self.state.model, self.state.prefix.tokens))
        self._model_changed = False

    def _replace(self, method: str, changed: dict[str, Tensor], result: Result) -> None:
        _refuse_stale(self.state, method, changed, result)
        if changed:
            self._set_model(self.state.model.with_tensors(changed))

    def _set_model(self, model: Model) -> None:
        self.state = replace(self.state, model=model)
        self._model_changed = True

    def _add(self, result: Result) -> None:
        weights = {**self.state.weights, **result.weights}
        if self.state.model.arch.tied_head and point.EMBED in result.weights:
            weights[point.LM_HEAD] = result.weights[point.EMBED]
        self.state = replace(
            self.state,
            scheme=self.state.scheme.with_formats(result.activations),
            weights=weights,
            activations={**self.state.activations, **result.activations},
        )


def _refuse_stale(state: QuantizedModel, method: str, changed: Iterable[str], result: Result) -> None:
    fixed = (state.weights.keys() - result.weights.keys()) | (state.activations.keys() - result.activations.keys())
    stale = [name for name in dict.fromkeys(name.rpartition(".")[0] for name in changed) if name in fixed]
    if stale:
        raise UsageError(
            f"method {method!r} changes {stale[0]}, whose codes or range an earlier method has already fixed",
            f"Put {method!r} before the methods that make ranges and codes.",
        )


def with_codes(state: QuantizedModel, names: Iterable[str]) -> Model:
    """The float model in which those of ``names`` that have codes compute with them."""
    dtype = state.model.tensors["embed.weight"].dtype
    rounded = {name: state.weights[name] for name in names if name in state.weights}
    return state.model.with_tensors({f"{name}.weight": w.dequantize().to(dtype) for name, w in rounded.items()})


def cached_prefix(state: QuantizedModel) -> KVPrefix | None:
    """The prefix as the cache will hold it, as soon as its ranges are known."""
    return state.simulated_prefix() if state.activations else state.prefix


def require_ranges(state: QuantizedModel, method: str) -> None:
    """Every activation has parameters.

    Raises:
        UsageError: there are none yet.
    """
    if any(name not in state.activations for name in point.all_points(state.model.arch)):
        raise UsageError(f"method {method!r} needs ranges, and there are none yet", "Put it behind ranges.")


def check_complete(state: QuantizedModel) -> None:
    """Every weight has codes and every activation parameters.

    Raises:
        UsageError: names what is missing and which method gives it.
    """
    codes = [name for name in (*state.model.tables(), *state.model.linears()) if name not in state.weights]
    if codes:
        raise UsageError(f"no integer codes for {_listed(codes)}", "End the recipe with the method rtn or gptq.")
    ranges = [name for name in point.all_points(state.model.arch) if name not in state.activations]
    if ranges:
        raise UsageError(f"no range for {_listed(ranges)}", "Add the method ranges to the recipe, behind transforms.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
