"""Whether a model can follow a recipe, found out before any work."""

from __future__ import annotations

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.errors import UsageError, did_you_mean
from mobilequant.jobs.model_size import matrix_sizes
from mobilequant.pipeline.recipe import Recipe
from mobilequant.pipeline.scheme import Scheme
from mobilequant.solvers.group_scale import check_group_size


def require_fit(arch: Architecture, recipe: Recipe) -> None:
    """Refuse a recipe that this model cannot follow.

    Raises:
        UsageError: groups that do not divide a matrix, a 16-bit point or prefix token that the model does not have,
            or windows longer than its context.
    """
    _require_group_size(arch, recipe.base_scheme())
    _require_points(arch, recipe.sixteen_bit.points)
    _require_room(arch, recipe)


def _require_group_size(arch: Architecture, scheme: Scheme) -> None:
    if scheme.group_size is None:
        return
    for role, (_, columns) in matrix_sizes(arch).items():
        check_group_size(point.at(0, role), columns, scheme.group_size)


def _require_points(arch: Architecture, points: tuple[str, ...]) -> None:
    known = list(point.all_points(arch))
    for name in points:
        if name not in known:
            raise UsageError(
                f"sixteen_bit.points names {name!r}, which this model does not have",
                f"{did_you_mean(name, known)}Activations are called like {known[1]} or {known[-1]}.",
            )


def _require_room(arch: Architecture, recipe: Recipe) -> None:
    """Refuse a prefix that the model does not know, and windows that do not fit into its context behind a prefix."""
    given = recipe.prefix.tokens
    unknown = [token for token in given if token >= arch.vocab_size] if given != "auto" else []
    if unknown:
        raise UsageError(
            f"prefix.tokens names the token {unknown[0]}, and the model has only {arch.vocab_size}",
            "Give tokens of this model in prefix.tokens, or let them be found: auto.",
        )
    room = arch.max_context - (recipe.prefix.max_tokens if given == "auto" else len(given))
    windows = {"data": recipe.data.window} | ({"training": recipe.training.window} if recipe.training else {})
    for section, window in windows.items():
        if window > room:
            raise UsageError(
                f"windows of {window} tokens for {section} are longer than this model allows: a context of "
                f"{arch.max_context} with the prefix in it",
                f"Start a recipe of your own with `mobilequant recipes NAME > mine.yaml`, and set {section}.window to "
                f"{room} or less there.",
            )
