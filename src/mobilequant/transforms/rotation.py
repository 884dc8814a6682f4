"""Changes of basis inside a decoder that weights absorb whole: no operation is added, the function stays the same.

    R1  residual     h → Qᵀh             tables, columns of readers, rows of writers     QuaRot, arXiv 2404.00456, §4
    R2  values       v → Mv              rows of v, columns of o                         SpinQuant, arXiv 2405.16406, §3
    Tₖ  q and k      q → Aq, k → A⁻ᵀk    rows of q and k                                 FPTQuant, arXiv 2506.04985, §3

R1 needs an orthogonal Q (an RMSNorm without gains sees lengths only), R2 any invertible M per key/value head. A is
made of one scaled rotation for each two dimensions that RoPE turns together, since those alone commute with it:

    A = ⊕ sᵢ·⎡cos θᵢ  −sin θᵢ⎤   A⁻ᵀ = ⊕ 1/sᵢ·⎡cos θᵢ  −sin θᵢ⎤
             ⎣sin θᵢ   cos θᵢ⎦                ⎣sin θᵢ   cos θᵢ⎦

Query heads of a group share the matrix of their key/value head. Each rewrite comes twice: one checks what it is given;
the other, ``…_in_basis``, is arithmetic alone, differentiable and without a look at values, for whoever learns the
matrices. Both compute in float64 and give back the dtype of the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.transforms.fold_gain import norm_readers

TOLERANCE = 1e-6  # by which Q·Qᵀ or M·M⁻¹ may miss the identity


def rotate_residual(tensors: Mapping[str, Tensor], arch: Architecture, rotation: Tensor) -> dict[str, Tensor]:
    """R1: the changed tensors when the residual stream is Qᵀh instead of h; ``rotation`` is Q (C, C).

    Comes behind ``fold_gains`` and, for LayerNorms, ``to_rms_norm``; in front of what scales the residual.

    Raises:
        ValueError: Q is not orthogonal; or the residual cannot be rotated, see ``why_not_rotatable``; or a norm is a
            LayerNorm or has gains.
    """
    reason = why_not_rotatable(tensors, arch) or why_not_ready(tensors, arch)
    if reason:
        raise ValueError(reason)
    _check_shape("the rotation of the residual", rotation, (arch.hidden_size, arch.hidden_size))
    _check_inverse("the rotation of the residual", rotation, rotation.mT)
    return residual_in_basis(tensors, arch, rotation)


def why_not_rotatable(tensors: Mapping[str, Tensor], arch: Architecture) -> str:
    """Why the residual of this model cannot be rotated; "" where it can."""
    if arch.post_norms:
        return f"{arch.family} has gains between its branches and the residual, which a rotation does not commute with"
    for name in (point.RESIDUAL_SCALE, point.COLUMN_SCALE):
        if name in tensors:
            return f"{name} gives the channels of the residual units of their own; rotate before channels are scaled"
    return ""


def why_not_ready(tensors: Mapping[str, Tensor], arch: Architecture) -> str:
    """What must be done with the norms before the residual of this model is rotated; "" where it is done."""
    if arch.norm != "rms":
        return f"a LayerNorm does not stand a rotation: make the norms of {arch.family} RMSNorms first"
    gains = [norm for norm in norm_readers(arch) if not bool((tensors[f"{norm}.weight"] == 1).all())]
    return f"{gains[0]} has gains, which a rotation does not commute with; fold them first" if gains else ""


def residual_in_basis(
    tensors: Mapping[str, Tensor], arch: Architecture, rotation: Tensor, part: str | None = None
) -> dict[str, Tensor]:
    """``rotate_residual`` without its checks; of a part only, where one is given."""
    rotation = rotation.to(tensors[f"{point.EMBED}.weight"].device, torch.float64)  # once, because it is large
    readers = [reader for group in norm_readers(arch, part).values() for reader in group]
    changed = {}
    for name in _weights_and_biases(tensors, point.within(part, point.residual_writers(arch))):
        changed[name] = _product(rotation.mT, tensors[name])
    for module in (*point.within(part, point.tables(arch)), *readers):
        weight = tensors[f"{module}.weight"]
        changed[f"{module}.weight"] = (weight.double() @ rotation).to(weight)
    return changed


def rotate_values(tensors: Mapping[str, Tensor], arch: Architecture, layer: int, matrices: Tensor) -> dict[str, Tensor]:
    """R2: the changed tensors when values of a layer are Mv instead of v; ``matrices`` holds one M per key/value head,
    (G, D, D).

    Raises:
        ValueError: the shape is another, or a matrix has no inverse.
    """
    what = f"the basis of {point.at(layer, 'v')}"
    _check_shape(what, matrices, (arch.num_kv_heads, arch.head_dim, arch.head_dim))
    _check_inverse(what, matrices, _inverse(matrices))
    return values_in_basis(tensors, arch, layer, matrices)


def values_in_basis(
    tensors: Mapping[str, Tensor], arch: Architecture, layer: int, matrices: Tensor
) -> dict[str, Tensor]:
    """``rotate_values`` without its checks."""
    changed = {}
    for name in _weights_and_biases(tensors, [point.at(layer, "v")]):
        heads = tensors[name].reshape(arch.num_kv_heads, arch.head_dim, -1)
        changed[name] = _product(matrices, heads).reshape(tensors[name].shape)
    name = point.at(layer, "o.weight")
    weight = tensors[name]
    heads = weight.double().unflatten(1, (arch.num_kv_heads, arch.queries_per_kv, arch.head_dim))
    turned = torch.einsum("cgqd,gde->cgqe", heads, _inverse(matrices).to(weight.device))
    return changed | {name: turned.flatten(1).to(weight)}


def rotate_keys(
    tensors: Mapping[str, Tensor], arch: Architecture, layer: int, angle: Tensor, log_scale: Tensor
) -> dict[str, Tensor]:
    """Tₖ: the changed tensors when queries of a layer are Aq and keys A⁻ᵀk.

    angle (G, P): radians, for each key head and each of the P = rotary_dim/2 pairs of dimensions that turn together.
    log_scale (G, P + D − rotary_dim): natural logarithms of s, for these pairs and then the dimensions RoPE lets pass.

    Raises:
        ValueError: the model normalizes its heads, which a rotation of q and k does not commute with; the shapes are
            others; or a number is not finite.
    """
    reason = why_not_key_rotatable(arch, layer)
    if arch.qk_norm:
        raise ValueError(reason)
    pairs, what = _turning_pairs(arch, layer), f"of the rotation of {point.at(layer, 'k')}"
    _check_shape(f"the angle {what}", angle, (arch.num_kv_heads, pairs))
    _check_shape(f"log_scale {what}", log_scale, (arch.num_kv_heads, arch.head_dim - pairs))
    if not bool(angle.isfinite().all() & log_scale.isfinite().all()):
        raise ValueError(f"an angle or a log_scale {what} is not finite")
    return keys_in_basis(tensors, arch, layer, angle, log_scale)


def why_not_key_rotatable(arch: Architecture, layer: int) -> str:
    """Why queries and keys of a layer have no angle that can be chosen; "" where they have."""
    if arch.qk_norm:
        return f"{arch.family} normalizes heads between the projections and RoPE, which no rotation commutes with"
    return "" if arch.layers[layer].rope else f"{arch.family} has no RoPE there, and so no planes that it turns"


def keys_in_basis(
    tensors: Mapping[str, Tensor], arch: Architecture, layer: int, angle: Tensor, log_scale: Tensor
) -> dict[str, Tensor]:
    """``rotate_keys`` without its checks."""
    changed = {}
    for role, exponent in (("q", log_scale), ("k", -log_scale)):
        for name in _weights_and_biases(tensors, [point.at(layer, role)]):
            tensor, groups = tensors[name], arch.num_kv_heads
            heads = tensor.reshape(groups, len(tensor) // (groups * arch.head_dim), arch.head_dim, -1)
            changed[name] = _turned(heads, angle, exponent).reshape(tensor.shape).to(tensor)
    return changed


def _turned(heads: Tensor, angle: Tensor, exponent: Tensor) -> Tensor:
    """The dimensions of heads (G, H/G, D, I), turned by angle (G, P) and scaled by e^exponent (G, P + rest)."""
    pairs = angle.shape[1]
    factors = (angle.double().cos(), angle.double().sin(), exponent.double().exp())
    cos, sin, scale = (factor[:, None, :, None].to(heads.device) for factor in factors)
    first, second, rest = heads.double().tensor_split((pairs, 2 * pairs), dim=2)
    turned, passed = scale.tensor_split((pairs,), dim=2)
    both = ((cos * first - sin * second) * turned, (sin * first + cos * second) * turned)
    return torch.cat((*both, rest * passed), dim=2)


def _turning_pairs(arch: Architecture, layer: int) -> int:
    rope = arch.layers[layer].rope
    return rope.rotary_dim // 2 if rope else 0


def _weights_and_biases(tensors: Mapping[str, Tensor], modules: list[str]) -> Iterator[str]:
    return (name for module in modules for name in (f"{module}.weight", f"{module}.bias") if name in tensors)


def _product(matrix: Tensor, tensor: Tensor) -> Tensor:
    return (matrix.to(tensor.device, torch.float64) @ tensor.double()).to(tensor)


def _inverse(matrices: Tensor) -> Tensor:
    """The inverses in float64, without the look at the result that would wait for a GPU."""
    return torch.linalg.inv_ex(matrices.double()).inverse


def _check_shape(what: str, given: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(given.shape) != shape:
        raise ValueError(f"{what} has the shape {tuple(given.shape)}, expected {shape}")


def _check_inverse(what: str, matrices: Tensor, inverse: Tensor) -> None:
    identity = torch.eye(matrices.shape[-1], dtype=torch.float64, device=matrices.device)
    error = (matrices.double() @ inverse.double() - identity).abs().max()
    if not bool(error <= TOLERANCE):
        raise ValueError(f"{what} is not orthogonal, or has no inverse: it misses the identity by {float(error):.1e}")
