"""The theorem on displacement and path, as code: how far the blocks of weights got, how far they
went.

The displacement is where the weights are, the path what they walked to get there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lipbook.networks import BLOCKS
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun

# The links of the chain, from the sharpest to the bluntest.
LINKS = ("product", "operator", "displacement", "path")


def operator_displacement(run: TrainingRun, name: str) -> np.ndarray:
    """Return ‖B_t − B_0‖_op of a block of weights at the recorded steps.

    Args:
        run: a training run.
        name: "hidden_weight" or "output_weight".

    Returns:
        (S, K); NaN once a network has diverged.
    """
    start = getattr(run.checkpoints[0], name)
    gone = np.isnan(run.displacement)
    norms = []
    for checkpoint, stopped in zip(run.checkpoints, gone, strict=True):
        moved = getattr(checkpoint, name) - start
        moved[torch.from_numpy(stopped)] = 0.0
        norms.append(torch.linalg.matrix_norm(moved, ord=2).cpu().numpy())
    return np.where(gone, np.nan, np.stack(norms))


def rounding(run: TrainingRun) -> np.ndarray:
    """Return what rounding may add to a displacement or take from a path, at every step.

    Each step rounds every weight once, and each norm of a gradient is a rounded sum over the
    weights: ε(t + p)(‖Θ_0‖ + ℓ_t) is more than both, ε the machine epsilon.

    Args:
        run: a training run.

    Returns:
        (T+1, K), in the unit of the weights.
    """
    epsilon = torch.finfo(run.ensemble.hidden_bias.dtype).eps
    terms = np.arange(run.n_steps + 1)[:, None] + run.ensemble.n_parameters
    start = run.checkpoints[0].parameter_norm().cpu().numpy()
    return epsilon * terms * (start + run.path)


def shares(run: TrainingRun) -> dict[str, np.ndarray]:
    """Return displacement divided by path, for each block and for all weights together.

    Args:
        run: a training run.

    Returns:
        {name of a block, or "all weights": (S, K)}; 0 where nothing has moved, NaN once a network
        has diverged. What rounding can do is taken off the displacement.
    """
    paths = {name: run.block_path[name] for name in BLOCKS} | {"all weights": run.path}
    moved = dict(run.block_displacement) | {"all weights": run.displacement}
    allowed = rounding(run)[run.steps]
    found = {}
    for name, path in paths.items():
        walked = path[run.steps]
        net = np.maximum(moved[name] - allowed, 0.0)
        found[name] = np.divide(net, walked, out=np.zeros_like(net), where=walked > 0.0)
        found[name][np.isnan(moved[name])] = np.nan
    return found


@dataclass(frozen=True)
class DisplacementBound:
    """Bound the weights by where they started and how far they got, block by block.

    For each block B: ‖B_T − B_0‖_F ≤ ℓ^B_T. Hence, with ‖·‖ the operator norm,
    L_σ‖W_T‖‖A_T‖ ≤ L_σ(‖W_0‖ + ‖W_T − W_0‖)(‖A_0‖ + ‖A_T − A_0‖)
    ≤ the same with Frobenius norms ≤ L_σ(‖W_0‖ + ℓ^W_T)(‖A_0‖ + ℓ^A_T).

    References:
        The book's theorem `thm-displacement`.
    """

    label = "thm-displacement"
    title = "Displacement and path"

    def chain(self, run: TrainingRun) -> dict[str, np.ndarray]:
        """Return the bounds of Lip(f_t) at the recorded steps, each at most the next.

        Args:
            run: a training run.

        Returns:
            {"product", "operator", "displacement", "path"}, each (S, K), rounded to nearest; NaN
            once a network has diverged.
        """
        start, gone = run.checkpoints[0], np.isnan(run.displacement)
        sizes = start.hidden_norm().cpu().numpy(), start.output_norm().cpu().numpy()
        names = "hidden_weight", "output_weight"
        moves = {
            "operator": [operator_displacement(run, name) for name in names],
            "displacement": [run.block_displacement[name] for name in names],
            "path": [np.where(gone, np.nan, run.block_path[name][run.steps]) for name in names],
        }
        constant = start.activation.lipschitz
        bounds = {
            link: constant * (sizes[0] + hidden) * (sizes[1] + output)
            for link, (hidden, output) in moves.items()
        }
        return {"product": run.product_bound, **bounds}

    def verdict(
        self, run: TrainingRun, network: int, lipschitz: float, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of the Lipschitz constant of one network at the last step.

        Args:
            run: a training run.
            network: which of its networks.
            lipschitz: Lip(f_T) or an upper bound of it that is no product of norms.
            subject: which run this is about.

        Returns:
            The `Verdict`; the bound is the one with operator norms, the sharpest that needs no
            norm of the weights at the end.
        """
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Lipschitz constant at the last step",
            hypotheses=self._hypotheses(run, network),
            bound=_number(self.chain(run)["operator"][-1, network]),
            measured=_number(lipschitz),
            subject=subject,
        )

    def verdict_on_blocks(self, run: TrainingRun, network: int, subject: str = "") -> Verdict:
        """Return what the theorem says of the displacement of every block at the last step.

        Args:
            run: a training run.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`; measured is the largest quotient of displacement and path.
        """
        largest = np.max([share[-1, network] for share in shares(run).values()])
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest quotient of displacement and path at the last step",
            hypotheses=self._hypotheses(run, network),
            bound=1.0,
            measured=_number(largest),
            subject=subject,
        )

    def _hypotheses(self, run: TrainingRun, network: int) -> tuple[Hypothesis, ...]:
        return (finite_steps(run, network),)


def _number(value: float) -> float | None:
    """Return a float, or None for a NaN: there is no such number after a divergence."""
    return None if np.isnan(value) else float(value)


def quadratic_share(product: float) -> float:
    """Return displacement/path of endless descent on βθ²/2 at a constant rate.

    1 for 0 < αβ ≤ 1, and (2 − αβ)/αβ for 1 < αβ < 2: the weight leaps over the minimum and back.

    Args:
        product: αβ, with 0 < αβ < 2.

    Returns:
        The share, between 0 and 1.

    Raises:
        ValueError: αβ outside (0, 2), where the weight does not move or does not converge.

    References:
        The book's exercise `ex-leaping`.
    """
    if not 0.0 < product < 2.0:
        raise ValueError(
            f"`product` must lie between 0 and 2 for descent to converge. Got {product}. "
            "Use a smaller rate."
        )
    return min(1.0, (2.0 - product) / product)
