"""The names of the networks that are measured: random ones, and ones trained on data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

RANDOM = "rand"
# Data set → inputs, outputs; "zigzag-5" is the synthetic target zigzag of five inputs.
TRAINED = {
    "co2-cycle": (1, 1),
    "zigzag-2": (2, 1),
    "zigzag-5": (5, 1),
    "diabetes": (10, 1),
    "digits": (64, 10),
}


@dataclass(frozen=True)
class Case:
    """Name one network and the domain on which its constant is asked for.

    Attributes:
        net: "rand", W ~ N(0, 1)/√d, b ~ N(0, 1), A ~ N(0, 1)/√m; or the data set, a name in
            `TRAINED`, on which that start was trained.
        d: number of inputs.
        m: number of hidden neurons.
        k: number of outputs.
        activation: σ.
        half_width: B of the box [−B, B]^d; None for the whole space.
        seed: of the start.
    """

    net: str
    d: int
    m: int
    k: int
    activation: str = "relu"
    half_width: float | None = None
    seed: int = 0

    @property
    def domain(self) -> tuple[float, float] | None:
        """The domain as `lipbook.lipschitz` takes it."""
        return None if self.half_width is None else (-self.half_width, self.half_width)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """d, m, k."""
        return self.d, self.m, self.k

    def __str__(self) -> str:
        """Return "(10,50,1)", with whatever is not the usual beside it."""
        parts = [f"({self.d},{self.m},{self.k})"]
        if self.net != RANDOM:
            parts.insert(0, self.net)
        if self.activation != "relu":
            parts.append(self.activation)
        if self.half_width is not None:
            parts.append(f"±{self.half_width:g}")
        if self.seed:
            parts.append(f"#{self.seed}")
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the case as a row of the result file holds it; `Case(**row)` takes it back."""
        return asdict(self)


def rand(d: int, m: int, k: int = 1, **others: Any) -> Case:
    """Return the case of a random network."""
    return Case(RANDOM, d, m, k, **others)


def trained(name: str, m: int, **others: Any) -> Case:
    """Return the case of a network trained on the data set of that name."""
    return Case(name, TRAINED[name][0], m, TRAINED[name][1], **others)
