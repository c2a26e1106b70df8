"""Make tests/fixtures/lipsdp.json: values of LipSDP by other people's solvers, at tight tolerances.

    python -m benchmarks.lipsdp_fixture

Four routes solve each network: the matrix inequality of Fazlyab et al. by CVXOPT and by CLARABEL,
the max-cut dual by CVXOPT (one output), the short form by CLARABEL. They must agree; the value is
the median. Weights are stored with five digits, so that no generator is needed to read them.
Neurons with w = 0 or a = 0 are left out of what the solvers see, and each is rescaled to ‖w‖ = ‖a‖:
neither changes the value, and interior-point methods want it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import statistics
import sys
from pathlib import Path
from typing import Any

import cvxpy
import numpy as np

from benchmarks.peers.lipsdp import solve
from lipbook.records import dumps, write_aside

FILE = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "lipsdp.json"
AGREEMENT = 3e-7
TIGHT = {
    "CVXOPT": {"abstol": 1e-8, "reltol": 1e-8, "feastol": 1e-8, "max_iters": 200},
    "CLARABEL": {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10},
}
ROUTES = (("lmi", "CVXOPT"), ("lmi", "CLARABEL"), ("maxcut", "CVXOPT"), ("short", "CLARABEL"))
# name: seed, d, m, k, and what is done to the rows afterwards.
RECIPES: dict[str, tuple[int, int, int, int, str]] = {
    "one neuron": (1, 3, 1, 1, ""),
    "one input": (2, 1, 20, 1, ""),
    "two inputs": (3, 2, 50, 1, ""),
    "five inputs": (4, 5, 30, 1, ""),
    "ten inputs": (5, 10, 50, 1, ""),
    "more inputs than neurons": (6, 12, 8, 1, ""),
    "two outputs": (7, 3, 25, 2, ""),
    "three outputs": (8, 10, 40, 3, ""),
    "one input, three outputs": (9, 1, 15, 3, ""),
    "more outputs than neurons": (10, 4, 2, 3, ""),
    "duplicate neurons": (11, 4, 24, 1, "duplicate"),
    "opposite neurons": (12, 4, 24, 2, "opposite"),
    "zero rows": (13, 3, 20, 1, "zero"),
    "badly scaled": (14, 3, 20, 1, "scale"),
    "badly scaled, two outputs": (15, 5, 24, 2, "scale"),
    "rank one": (16, 4, 16, 1, "rank"),
}


def drawn(seed: int, d: int, m: int, k: int, change: str) -> tuple[np.ndarray, np.ndarray]:
    """Return W (m, d) and A (k, m) of a recipe."""
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(m, d)) / np.sqrt(d)
    output = generator.normal(size=(k, m)) / np.sqrt(m)
    half = m // 2
    if change in ("duplicate", "opposite"):
        weight[half:] = weight[:half] * (1.0 if change == "duplicate" else -1.0)
    elif change == "zero":
        weight[::5] = 0.0
        output[:, 1::5] = 0.0
    elif change == "scale":
        powers = np.linspace(-2.0, 2.0, m)
        weight *= 10.0 ** generator.permutation(powers)[:, None]
        output *= 10.0 ** generator.permutation(powers)
    elif change == "rank":
        weight = np.outer(weight[:, 0], weight[0])
    return five_digits(weight), five_digits(output)


def five_digits(array: np.ndarray) -> np.ndarray:
    """Round every entry to five significant decimal digits."""
    return np.array([[float(f"{value:.5g}") for value in row] for row in array])


def prepared(weight: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop neurons that cannot be felt and balance the others."""
    sizes = np.linalg.norm(weight, axis=1), np.linalg.norm(output, axis=0)
    live = (sizes[0] > 0.0) & (sizes[1] > 0.0)
    factor = np.sqrt(sizes[1][live] / sizes[0][live])
    return weight[live] * factor[:, None], output[:, live] / factor


def entry(name: str) -> dict[str, Any]:
    """Solve one network by every route and return its record."""
    seed, d, m, k, change = RECIPES[name]
    weight, output = drawn(seed, d, m, k, change)
    layers = prepared(weight, output)
    values = {}
    for form, solver in ROUTES:
        # A tolerance can be out of a solver's reach on one network; two that agree are enough.
        with contextlib.suppress(cvxpy.SolverError, RuntimeError, ValueError):
            values[f"{form} {solver}"] = solve(*layers, form, solver, TIGHT[solver]).value
    assert len(values) >= 2, (name, values)
    value = statistics.median(values.values())
    spread = max(abs(other / value - 1.0) for other in values.values())
    print(f"{name:28} {value:.10g}  spread {spread:.1e}, {', '.join(values)}", file=sys.stderr)
    assert spread <= AGREEMENT, values
    return {
        "name": name,
        "recipe": {"seed": seed, "d": d, "m": m, "k": k, "change": change},
        "hidden_weight": weight.tolist(),
        "output_weight": output.tolist(),
        "value": value,
        "values": values,
        "spread": spread,
    }


def main() -> None:
    """Write the fixture."""
    packages = ("cvxpy", "cvxopt", "clarabel", "numpy")
    contents = {
        "what": "L_sdp = min over t > 0 of LipSDP-Neuron, slopes in [0, 1], one hidden layer",
        "made_by": "python -m benchmarks.lipsdp_fixture",
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "tolerances": TIGHT,
        "networks": [entry(name) for name in RECIPES],
    }
    write_aside(FILE, dumps(contents))


if __name__ == "__main__":
    main()
