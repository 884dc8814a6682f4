"""The quantized model as it grows: taking in results, and knowing what is stale or missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mobilequant.arch import point
from mobilequant.errors import UsageError
from mobilequant.models.model import KVPrefix, Model
from mobilequant.models.quantized import QuantizedModel
from mobilequant.pipeline.method import Result

_NAMED = 3  # how many missing names an error lists


def absorb(state: QuantizedModel, method: str, result: Result) -> QuantizedModel:
    """The state with the result of one unit of ``method`` taken in; a tied lm_head follows "embed", the scheme the
    formats of activations.

    A result that comes back from a checkpoint lies on the CPU, whatever the device of the run.

    Raises:
        UsageError: the result changes a tensor whose codes or range are already fixed, and brings no new ones.
    """
    _refuse_stale(state, method, result)
    result = result.to(state.model.device)
    model = state.model.with_tensors(result.tensors) if result.tensors else state.model
    if result.norm:
        model = model.with_rms_norms()
    weights = {**state.weights, **result.weights}
    if model.arch.tied_head and point.EMBED in result.weights:
        weights[point.LM_HEAD] = result.weights[point.EMBED]
    return replace(
        state,
        model=model,
        scheme=state.scheme.with_formats(result.activations),
        weights=weights,
        activations={**state.activations, **result.activations},
    )


def _refuse_stale(state: QuantizedModel, method: str, result: Result) -> None:
    fixed = (state.weights.keys() - result.weights.keys()) | (state.activations.keys() - result.activations.keys())
    stale = [name for name in dict.fromkeys(name.rpartition(".")[0] for name in result.tensors) if name in fixed]
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
