"""Combinations of vectors that sum to one and are close to 0 or 1: the matting components of spectral matting.

Levin, Rav-Acha, Lischinski, Spectral Matting, PAMI 2008.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_EXPONENT = 0.8  # γ: mixtures come out nearer to their shares than with 0.9, and photographs' layers crisper
_LEAST = 1e-3  # smaller |α| and |1 − α| weigh as if they were it; 0.1 would make all layers alike
_STEPS = 20  # in 100, were none kept, most of a photograph's layers would vanish
_HALVINGS = 7
_KEPT = 0.5  # of a layer's mean


def sparse_components(basis: Float64, members: Float64) -> Float64:
    """Rotate a basis so that its columns are close to 0 or 1, from hard clusters: Z of the alphas basis·Z.

    The alphas sum to 1 at each pixel, Z's rows but the first to 0. They begin at the clusters' projections onto the
    basis. As in the paper, a step solves the least squares with the weights |α|^(γ−2) and |1 − α|^(γ−2) of the
    alphas before it: Newton's, of the second-order approximation to `penalty`. There are at most 20 of them.

    One layer that is 1 everywhere has the least penalty of all, so that the steps would in the end lead there. They are
    therefore halved until the penalty falls and each layer keeps half of its cluster's pixels or more, as the sum of
    its alphas, and end where that takes more than 7 halvings. The more vectors there are beside the layers, the
    closer to 0 and 1 the projections are, and the less the layers change in size.

    Parameters
    ----------
    basis : (n, m) float64
        Its columns independent, and of about the same scale; the first is 1.
    members : (n, n_layers) float64
        1 where a pixel is in the cluster, else 0: one 1 in each row, and at least one in each column.

    Returns
    -------
    (m, n_layers) float64
        The penalty of basis·Z is at most that of the clusters' projections.
    """
    found = np.asarray(np.linalg.lstsq(basis, members, rcond=None)[0], np.float64)
    means = basis.mean(axis=0)
    least = _KEPT * members.mean(axis=0)
    powers = _powers(basis @ found)
    for _ in range(_STEPS):
        step = _minimum(basis, *_weights(basis @ found, powers)) - found
        for _ in range(_HALVINGS + 1):
            next_found = found + step
            next_powers = _powers(basis @ next_found)
            if next_powers.sum() < powers.sum() and np.all(means @ next_found >= least):
                break
            step /= 2
        else:
            return found
        found, powers = next_found, next_powers
    return found


def penalty(alphas: Float64) -> float:
    """Mean of |α|^γ + |1 − α|^γ, γ = 0.8: at least 1, which only alphas of 0 and 1 reach."""
    return float(_powers(alphas).sum() / alphas.size)


def _powers(alphas: Float64) -> Float64:
    return np.asarray(np.abs(np.stack([alphas, 1 - alphas])) ** _EXPONENT)


def _weights(alphas: Float64, powers: Float64) -> Float64:
    """|α|^(γ−2) and |1 − α|^(γ−2), (2, n, n_layers)."""
    squares = np.square(np.stack([alphas, 1 - alphas]))
    return np.asarray(np.maximum(powers, _LEAST**_EXPONENT) / np.maximum(squares, _LEAST**2))


def _minimum(basis: Float64, to_zero: Float64, to_one: Float64) -> Float64:
    """Z with the least Σ to_zero·α² + to_one·(1 − α)², α = basis·Z, where the sum of Z's columns is (1, 0, …)."""
    pull = to_zero + to_one
    inverses = np.stack([np.linalg.inv((basis * weights[:, None]).T @ basis) for weights in pull.T])
    free = np.einsum("lij,jl->il", inverses, basis.T @ to_one)
    # Lagrange multipliers of the sum.
    force = np.linalg.solve(inverses.sum(axis=0), np.eye(len(free))[0] - free.sum(axis=1))
    return np.asarray(free + (inverses @ force).T)
