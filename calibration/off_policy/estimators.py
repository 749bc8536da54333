"""Off-policy estimators: what another policy would have earned, from decisions that were logged.

Logged are n decisions: a payment's fields x, an action a (a processor), the probability μ(a|x) with which it was
chosen, and the reward r. The target policy would choose with π(a|x). With w = π(a|x) / μ(a|x), q the predicted reward
and q(x, π) = Σ_a π(a|x) q(x, a):

- IPS          mean of w r                                    (Horvitz and Thompson 1952)
- SNIPS        Σ w r / Σ w                                    (Hájek 1971; Swaminathan and Joachims 2015)
- clipped IPS  mean of min(w, M) r                            (Ionides 2008)
- DM           mean of q(x, π)
- DR           mean of q(x, π) + w (r - q(x, a))              (Robins, Rotnitzky and Zhao 1994; Dudík et al. 2011)
- SNDR         mean of q(x, π)  +  Σ w (r - q(x, a)) / Σ w
- Switch-DR    DR where w <= τ, DM elsewhere                  (Wang, Agarwal and Dudík 2017)
- DRos         DR with λ w / (w² + λ) in place of w           (Su et al. 2020, optimistic shrinkage)

Where the probabilities of π add up to less than 1, the rest is no action at all, whose reward is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routesim.sim.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class Decisions:
    """n logged decisions as a target policy sees them, all of shape (n,).

    ``reward``; ``weight`` w; ``predicted`` q(x, a) of the logged action; ``direct`` q(x, π); ``mass`` Σ_a π(a|x),
    1 where the target always acts.
    """

    reward: Floats
    weight: Floats
    predicted: Floats
    direct: Floats
    mass: Floats

    @classmethod
    def of(cls, reward: Floats, action: Ints, propensity: Floats, target: Floats, predicted: Floats,
           follows: Bools | None = None) -> Decisions:
        """From ``action`` (n,) in 0 … K-1, ``propensity`` (n,) of that action, ``target`` and ``predicted`` (n, K).

        Where ``follows`` (n,) is true the target does whatever was logged: w = 1. Raises ValueError where a
        propensity is not in (0, 1] or shapes differ.
        """
        rows = np.arange(len(reward))
        if target.shape != predicted.shape or not len(action) == len(propensity) == len(target) == len(reward):
            raise ValueError("reward, action, propensity, target and predicted do not tell of the same decisions")
        if len(reward) and not (propensity.min() > 0 and propensity.max() <= 1):
            raise ValueError("a propensity lies outside (0, 1]: what was logged cannot have been impossible")
        weight = target[rows, action] / propensity
        direct, mass = (target * predicted).sum(axis=1), target.sum(axis=1)
        logged = predicted[rows, action]
        if follows is not None:
            weight, direct, mass = (np.where(follows, own, other)
                                    for own, other in ((1.0, weight), (logged, direct), (1.0, mass)))
        return cls(reward, weight, logged, direct, mass)


@dataclass(frozen=True)
class Estimate:
    """A policy's mean reward. ``scores`` (n,) average to ``value``, and its error is that of their average, so that
    differences of policies on the same decisions are differences of scores."""

    value: float
    standard_error: float
    scores: Floats


def _average(scores: Floats) -> Estimate:
    n = len(scores)
    error = float(scores.std(ddof=1)) / np.sqrt(n) if n > 1 else float("nan")
    return Estimate(float(scores.mean()), float(error), scores)


def _linearised(scores: Floats) -> Estimate:
    """By the delta method: √(Σ (score - value)²) / n, as is usual for ratios."""
    return Estimate(float(scores.mean()), float(scores.std() / np.sqrt(len(scores))), scores)


def _self_normalised(d: Decisions, earned: Floats) -> Floats:
    """The scores of (mean mass) · Σ w earned / Σ w."""
    if not d.weight.any():
        return np.full(len(earned), np.nan)
    ratio = (d.weight * earned).sum() / d.weight.sum()
    return np.asarray(ratio * d.mass + d.mass.mean() * d.weight * (earned - ratio) / d.weight.mean())


def ips(d: Decisions) -> Estimate:
    """Unbiased where μ is right and every action of π was possible; wild where weights are."""
    return _average(d.weight * d.reward)


def snips(d: Decisions) -> Estimate:
    """IPS over the weights' own sum: hardly biased, steadier, and unmoved when a constant is added to all rewards."""
    return _linearised(_self_normalised(d, d.reward))


def clipped_ips(d: Decisions, largest: float) -> Estimate:
    """Biased towards 0 by what the clipped weights held."""
    return _average(np.minimum(d.weight, largest) * d.reward)


def direct_method(d: Decisions) -> Estimate:
    """As good as the predicted rewards; its error here is that of averaging them, not of predicting them."""
    return _average(d.direct)


def doubly_robust(d: Decisions) -> Estimate:
    """Right where either μ or q is."""
    return _average(d.direct + d.weight * (d.reward - d.predicted))


def self_normalised_doubly_robust(d: Decisions) -> Estimate:
    """DR whose correction is divided by the weights' own sum."""
    return _linearised(d.direct + _self_normalised(d, d.reward - d.predicted))


def switch_doubly_robust(d: Decisions, threshold: float) -> Estimate:
    """Trusts the predicted reward alone where a weight exceeds ``threshold``."""
    kept = np.where(d.weight <= threshold, d.weight, 0.0)
    return _average(d.direct + kept * (d.reward - d.predicted))


def shrunk_doubly_robust(d: Decisions, shrinkage: float) -> Estimate:
    """DRos: large weights count for less, smoothly."""
    shrunk = shrinkage * d.weight / (d.weight**2 + shrinkage)
    return _average(d.direct + shrunk * (d.reward - d.predicted))


def effective_sample_size(weight: Floats) -> float:
    """Kish: (Σ w)² / Σ w², the decisions that would tell as much if all weighed the same; 0 where none weighs."""
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


@dataclass(frozen=True)
class Overlap:
    """How far what was logged covers the target: all of them ordinary in numbers, alarming where few rows carry all.

    ``mean_weight`` is 1 in expectation where μ is right and every action of π was possible.
    """

    effective_sample_size: float
    mean_weight: float
    max_weight: float
    max_weight_share: float

    @classmethod
    def of(cls, weight: Floats) -> Overlap:
        """From the weights (n,), n > 0."""
        total, largest = float(weight.sum()), float(weight.max())
        return cls(effective_sample_size(weight), float(weight.mean()), largest, largest / total if total else 0.0)


def clustered_error(scores: Floats, cluster: Ints) -> float:
    """The standard error of the scores' mean where those of one ``cluster`` (n,) hang together.

    √(G/(G-1) · Σ_g (Σ_{i in g} (s_i - mean))²) / n over G clusters (Liang and Zeger 1986); NaN for fewer than two.
    """
    _, number = np.unique(cluster, return_inverse=True)
    sums = np.bincount(number, weights=scores - scores.mean())
    groups = len(sums)
    if groups < 2:
        return float("nan")
    return float(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / len(scores))
