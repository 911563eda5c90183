"""Weights as products of smaller ones: SVD, spatial SVD, Tucker-2, and ranks that data imply.

Kernels have the shape (*size, inputs, outputs), as in Keras; a Dense kernel has no size. All is
computed in 64 bits and is deterministic.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
SWEEPS = 3
"""Rounds of alternating least squares after a truncated Tucker decomposition."""
TINY = 1e-12


def unfold(kernel: NDArray[Any]) -> Float:
    """(size · inputs, outputs): what a convolution multiplies a patch by."""
    return np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])


def spatial(kernel: NDArray[Any]) -> Float:
    """(height · inputs, width · outputs) of a 2-D kernel (height, width, inputs, outputs)."""
    high, wide, inputs, outputs = kernel.shape
    moved = np.asarray(kernel, np.float64).transpose(0, 2, 1, 3)
    return moved.reshape(high * inputs, wide * outputs)


def tail(values: Float) -> Float:
    """The share of the energy that is lost by keeping the first 0, 1, … all of ``values``.

    ``values`` are energies (squared singular values), largest first.
    """
    left = np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])
    return np.clip(left / max(float(left[0]), TINY), 0.0, 1.0)


def svd(matrix: NDArray[Any], rank: int, moment: Float | None = None) -> tuple[Float, Float]:
    """(left, right), whose product is the best of that rank.

    Without ``moment`` by the weights' own error. With ``moment``, the second moment (outputs,
    outputs) of what the layer gives on data, by the error of its outputs (Zhang et al. 2015):
    the projection on its main directions.
    """
    matrix = np.asarray(matrix, np.float64)
    if moment is not None:
        main = _directions(moment)[1][:, :rank]
        left, right = matrix @ main, main.T
    else:
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
        left, right = u[:, :rank] * s[:rank], v[:rank]
    # Both factors alike in scale: quantisation gets the same ranges from both.
    scale = np.sqrt(np.linalg.norm(left, axis=0).clip(TINY))
    return left / scale, right * scale[:, None]


def energies(matrix: NDArray[Any], moment: Float | None = None) -> Float:
    """What each further rank of ``svd`` brings: squared singular values, largest first."""
    if moment is not None:
        return _directions(moment)[0][: min(matrix.shape)]
    values: Float = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False) ** 2
    return values


def _directions(moment: Float) -> tuple[Float, Float]:
    """Eigenvalues, largest first, and their directions as columns."""
    found, columns = np.linalg.eigh((moment + moment.T) / 2)
    return found[::-1].clip(0.0), columns[:, ::-1]


def spatial_svd(kernel: NDArray[Any], rank: int) -> tuple[Float, Float]:
    """Kernels (height, 1, inputs, rank) and (1, width, rank, outputs) (Jaderberg et al. 2014)."""
    high, wide, inputs, outputs = kernel.shape
    left, right = svd(spatial(kernel), rank)
    first = left.reshape(high, inputs, rank)[:, None]
    second = right.reshape(rank, wide, outputs).transpose(1, 0, 2)[None]
    return first, second


def tucker_energies(kernel: NDArray[Any]) -> Float:
    """The energy that a truncated Tucker-2 keeps with the first i inputs' and j outputs' factors.

    A table (inputs, outputs) whose last entry is the kernel's whole energy.
    """
    cube = np.asarray(kernel, np.float64).reshape(-1, *kernel.shape[-2:])
    core = np.einsum("kio,ia,ob->kab", cube, _mode(cube, 1), _mode(cube, 2), optimize=True)
    table: Float = np.square(core).sum(0).cumsum(0).cumsum(1)
    return table


def tucker2(kernel: NDArray[Any], ranks: tuple[int, int]) -> tuple[Float, Float, Float]:
    """(inputs, a), core (*size, a, b) and (b, outputs) (Kim et al. 2016).

    Truncated higher-order SVD, refined by alternating least squares.
    """
    a, b = ranks
    cube = np.asarray(kernel, np.float64).reshape(-1, *kernel.shape[-2:])
    into, out = _mode(cube, 1)[:, :a], _mode(cube, 2)[:, :b]
    for _ in range(SWEEPS):
        into = _mode(np.einsum("kio,ob->kib", cube, out, optimize=True), 1)[:, :a]
        out = _mode(np.einsum("kio,ia->kao", cube, into, optimize=True), 2)[:, :b]
    core = np.einsum("kio,ia,ob->kab", cube, into, out, optimize=True)
    return into, core.reshape(*kernel.shape[:-2], a, b), out.T


def _mode(cube: Float, axis: int) -> Float:
    """The main directions, as columns, of a cube along an axis; all of them."""
    matrix = np.moveaxis(cube, axis, 0).reshape(cube.shape[axis], -1)
    return _directions(matrix @ matrix.T)[1]


def depthwise_pointwise(kernel: NDArray[Any], multiplier: int) -> tuple[Float, Float]:
    """Kernels (height, width, inputs, multiplier) and (1, 1, inputs · multiplier, outputs).

    For each input channel the (height · width, outputs) matrix's best approximation of rank
    ``multiplier``: the depthwise-separable convolution nearest to a standard one.
    """
    high, wide, inputs, outputs = kernel.shape
    cube = np.asarray(kernel, np.float64).reshape(high * wide, inputs, outputs).transpose(1, 0, 2)
    u, s, v = np.linalg.svd(cube, full_matrices=False)
    root = np.sqrt(s[:, :multiplier])
    depth = (u[:, :, :multiplier] * root[:, None]).transpose(1, 0, 2)
    point = v[:, :multiplier] * root[:, :, None]
    return (
        depth.reshape(high, wide, inputs, multiplier),
        point.reshape(1, 1, inputs * multiplier, outputs),
    )


def vbmf_rank(matrix: NDArray[Any]) -> int:
    """The rank that stands out of the noise, by empirical variational Bayes; may be 0.

    The analytic solution with the noise's variance estimated (Nakajima et al. 2013).
    """
    matrix = np.asarray(matrix, np.float64)
    rows, columns = sorted(matrix.shape)
    alpha = rows / columns
    edge = 2.5129 * math.sqrt(alpha)
    threshold = (1 + edge) * (1 + alpha / edge)
    powers = energies(matrix)
    if powers[0] <= 0:
        return 0
    powers = np.maximum(powers, powers[0] * TINY)
    noise = _noise(powers, rows, columns, threshold)
    return int((powers > columns * noise * threshold).sum())


def _noise(powers: Float, rows: int, columns: int, threshold: float) -> float:
    """The noise's variance of least free energy, by a search that narrows around the best."""
    first = min(math.ceil(rows / (1 + rows / columns)) - 1, len(powers) - 1)
    low = max(powers[first] / (columns * threshold), float(powers[first:].mean()) / columns)
    high = max(float(powers.sum()) / (rows * columns), low)
    for _ in range(4):
        tried = np.geomspace(low, high, 64)
        found = [_free_energy(powers / (columns * x), rows / columns, threshold) for x in tried]
        best = int(np.argmin(found))
        low, high = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
    return float(tried[best])


def _free_energy(x: Float, alpha: float, threshold: float) -> float:
    """The free energy, up to constants, of energies ``x`` in units of the noise."""
    kept, noise = x[x > threshold], x[x <= threshold]
    excess = kept - (1 + alpha)
    tau = (excess + np.sqrt(np.maximum(excess**2 - 4 * alpha, 0))) / 2
    return float(
        (noise - np.log(noise)).sum()
        + (kept - tau).sum()
        + np.log((tau + 1) / kept).sum()
        + alpha * np.log(tau / alpha + 1).sum()
    )
