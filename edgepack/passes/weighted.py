"""Factors of a kernel that go by the error of a layer's outputs on data, not by the weights'.

``second`` is the second moment (size · inputs, size · inputs) of the patches that a kernel is
multiplied by. SVD has a closed form (Zhang et al. 2015); the other factorisations start from the
kernel in units of its inputs' spread, then one factor after the other is solved for the outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.passes import factorise
from edgepack.passes.factorise import TINY, Float

TERMS = {"spatial": (("hir", "wro"), "hwio"), "tucker": (("ia", "kab", "bo"), "kio")}
"""How a kernel comes from its factors: the indices of each, and of the kernel."""
SWEEPS = 4
STEPS = 25
"""Steps of conjugate gradients for one factor."""
FLOOR = 1e-6
"""Of the largest spread, so that inputs that never vary can be divided by theirs."""


def energies(kernel: NDArray[Any], method: str, second: Float | None) -> Float:
    """What each rank of ``svd`` or ``spatial`` brings, largest first."""
    if method == "spatial":
        matrix = factorise.spatial(kernel)
        return factorise.energies(_spread(kernel, method, second)[0] @ matrix)
    matrix = factorise.unfold(kernel)
    return factorise.energies(matrix, None if second is None else matrix.T @ second @ matrix)


def tucker_energies(kernel: NDArray[Any], second: Float | None) -> Float:
    """The table of ``factorise.tucker_energies``, in units of the inputs' spread."""
    spread, _ = _spread(kernel, "tucker", second)
    return factorise.tucker_energies(np.einsum("ji,...io->...jo", spread, kernel, optimize=True))


def factors(
    kernel: NDArray[Any],
    method: str,
    ranks: tuple[int, int],
    second: Float | None = None,
    sweeps: int = SWEEPS,
) -> list[Float]:
    """The kernels of the chain that comes instead: their product is near to ``kernel``.

    With ``second``, each factor of a spatial or Tucker chain is solved ``sweeps`` times.
    """
    if method == "svd":
        matrix = factorise.unfold(kernel)
        moment = None if second is None else matrix.T @ second @ matrix
        left, right = factorise.svd(matrix, ranks[0], moment)
        return [left.reshape(*kernel.shape[:-1], ranks[0]), right]
    spread, back = _spread(kernel, method, second)
    if method == "spatial":
        high, wide, inputs, outputs = kernel.shape
        seen = (spread @ factorise.spatial(kernel)).reshape(high, inputs, wide, outputs)
        one, two = factorise.spatial_svd(seen.transpose(0, 2, 1, 3), ranks[0])
        one = (back @ one.reshape(high * inputs, -1)).reshape(one.shape)
        found = [one[:, 0], two[0]]
        if second is not None:
            found = _solved(np.asarray(kernel, np.float64), method, found, second, sweeps)
        scale = np.sqrt(_norms(found[0], 2) / _norms(found[1], 1))
        return [(found[0] / scale)[:, None], (found[1] * scale[:, None])[None]]
    seen = np.einsum("ji,...io->...jo", spread, kernel, optimize=True)
    into, core, out = factorise.tucker2(seen, ranks)
    cube = np.asarray(kernel, np.float64).reshape(-1, *kernel.shape[-2:])
    found = [back @ into, core.reshape(len(cube), *ranks), out]
    if second is not None:
        found = _solved(cube, method, found, second, sweeps)
    return [found[0], found[1].reshape(core.shape), found[2]]


def product(chain: list[Float], method: str) -> Float:
    """(size · inputs, outputs): what the factors make together."""
    if method == "svd":
        return factorise.unfold(chain[0]) @ chain[1]
    if method == "spatial":
        made = _made([chain[0][:, 0], chain[1][0]], method)
    else:
        made = _made([chain[0], chain[1].reshape(-1, *chain[1].shape[-2:]), chain[2]], method)
    return factorise.unfold(made)


def lost(kernel: NDArray[Any], made: Float, second: Float | None = None) -> float:
    """The share of the outputs' energy, or without ``second`` of the weights', that is lost."""
    wanted = factorise.unfold(kernel)
    return _energy(wanted - made, second) / max(_energy(wanted, second), TINY)


def _energy(matrix: Float, second: Float | None) -> float:
    seen = matrix if second is None else second @ matrix
    return float((matrix * seen).sum())


def _norms(array: Float, axis: int) -> Float:
    others = tuple(place for place in range(array.ndim) if place != axis)
    norms: Float = np.sqrt(np.square(array).sum(others)).clip(TINY)
    return norms


def _spread(kernel: NDArray[Any], method: str, second: Float | None) -> tuple[Float, Float]:
    """The root of the second moment of what the first factor reads, and its inverse."""
    *size, inputs, _ = kernel.shape
    if second is None:
        unit = np.eye(inputs * (size[0] if method == "spatial" else 1))
        return unit, unit
    if method == "spatial":
        full = second.reshape(*size, inputs, *size, inputs)
        read = np.einsum("hwigwj->higj", full).reshape(size[0] * inputs, -1)
    else:
        full = second.reshape(-1, inputs, second.shape[0] // inputs, inputs)
        read = np.einsum("kikj->ij", full)
    values, columns = np.linalg.eigh((read + read.T) / 2)
    roots = np.sqrt(np.maximum(values, FLOOR * max(float(values[-1]), TINY)))
    return (columns * roots) @ columns.T, (columns / roots) @ columns.T


def _made(found: list[Float], method: str) -> Float:
    terms, kernel = TERMS[method]
    made: Float = np.einsum(f"{','.join(terms)}->{kernel}", *found, optimize=True)
    return made


def _solved(
    kernel: Float, method: str, found: list[Float], second: Float, sweeps: int
) -> list[Float]:
    """The factors, each solved in turn for the outputs by conjugate gradients."""
    terms, whole = TERMS[method]
    outputs = kernel.shape[-1]

    def weighed(array: Float) -> Float:
        return (second @ array.reshape(-1, outputs)).reshape(kernel.shape)

    for place in [*range(len(found))[::-1]] * sweeps:
        others = [factor for i, factor in enumerate(found) if i != place]
        given = ",".join([whole, *(term for i, term in enumerate(terms) if i != place)])

        def pulled(array: Float, given: str = given, others: Any = others, i: int = place) -> Float:
            back: Float = np.einsum(f"{given}->{terms[i]}", array, *others, optimize=True)
            return back

        def applied(factor: Float, i: int = place) -> Float:
            return _made([*found[:i], factor, *found[i + 1 :]], method)

        left = pulled(weighed(kernel - applied(found[place])))
        direction, power = left, float((left * left).sum())
        for _ in range(STEPS):
            if power <= TINY**2:
                break
            change = pulled(weighed(applied(direction)))
            step = power / max(float((direction * change).sum()), TINY**3)
            found[place] = found[place] + step * direction
            left = left - step * change
            after = float((left * left).sum())
            direction, power = left + (after / power) * direction, after
    return found
