"""Arrays by name, as state_dicts and .npz files hold them, put in order as layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lipbook.lipschitz.arrays import FloatArray
from lipbook.network_files.errors import refusal
from lipbook.parameters import shown

# Names of W, b, A, c that stand for a two-layer network as they are.
_TWO_LAYERS = (("hidden_weight", "hidden_bias", "output_weight", "output_bias"), tuple("WbAc"))
# Names that say where in the network a layer stands.
_PLACES = ("input", "hidden", "output")
# A table of vectors has the shape of a matrix; only its name gives it away.
_EMBEDDING = re.compile(r"(^|[._])emb(ed|edding)?s?($|[._0-9])")
_MUST = "hold the Linear layers of a perceptron: NAME.weight, NAME.bias"
_RENAME = "Name the layers 0, 1, 2, … in their order."
_ORDERS = 1000

NamedLayer = tuple[str, FloatArray, FloatArray | None]


@dataclass(frozen=True)
class NamedArrays:
    """Hold the arrays of a file by name.

    Attributes:
        arrays: in the order of the file.
        ordered: whether that order means anything.
    """

    arrays: Mapping[str, FloatArray]
    ordered: bool


def named_layers(path: Path, named: NamedArrays) -> list[NamedLayer]:
    """Return (name, W, b or None) of every layer, first to last.

    Raises:
        NetworkFileError: arrays that are no Linear layers, or whose order is not certain.
    """
    arrays = named.arrays
    if not arrays:
        raise refusal(path, _MUST, "which holds no array", "Save the weights in it.")
    for names in _TWO_LAYERS:
        if {names[0], names[2]} <= arrays.keys() <= set(names):
            return _two_layers(path, arrays, names)
    weights = _weights(path, arrays)
    order = _order(path, {name: weights[name].shape for name in weights}, named.ordered)
    return [(name, weights[name], arrays.get(_joined(name, "bias"))) for name in order]


def _two_layers(
    path: Path, arrays: Mapping[str, FloatArray], names: Sequence[str]
) -> list[NamedLayer]:
    hidden, output = arrays[names[0]], arrays[names[2]]
    output = output[None, :] if output.ndim == 1 else output
    for name, matrix in ((names[0], hidden), (names[2], output)):
        if matrix.ndim != 2:
            got = f"whose {name} has shape {arrays[name].shape}"
            raise refusal(path, "hold matrices (out, in)", got, "Reshape it.")
    return [
        (names[0], hidden, arrays.get(names[1])),
        (names[2], output, arrays.get(names[3])),
    ]


def _joined(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _weights(path: Path, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the weight matrices by the names of their layers."""
    weights = {}
    for key, array in arrays.items():
        name, _, part = key.rpartition(".")
        if part == "weight" and array.ndim == 2 and not _EMBEDDING.search(name.lower()):
            weights[name] = array
        elif part != "bias" or array.ndim != 1 or _joined(name, "weight") not in arrays:
            got = f"which holds {shown(key)} of shape {array.shape}"
            raise refusal(path, _MUST, got, "Leave out what is no Linear layer.")
    return weights


def _order(path: Path, shapes: Mapping[str, tuple[int, ...]], ordered: bool) -> Sequence[str]:
    """Return the names in the order of the layers.

    The order of the file and that of the numbers in the names both count; where a file keeps no
    order and names say nothing, the shapes may leave only one.
    """
    likely = [tuple(shapes)] if ordered else []
    likely += [order for order in (_by_number(shapes), _by_place(shapes)) if order]
    fitting = list(dict.fromkeys(order for order in likely if _fits(order, shapes)))
    if not fitting and not ordered:
        fitting = _fitting_orders(shapes)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise refusal(
            path, "say in which order its layers come", "whose layers fit in several", _RENAME
        )
    sizes = ", ".join(f"{n}: {shape[1]}→{shape[0]}" for n, shape in list(shapes.items())[:6])
    raise refusal(
        path, "hold layers that fit together", f"with {sizes}", "Name and save them in order."
    )


def _fits(order: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(shapes[a][0] == shapes[b][1] for a, b in pairwise(order))


def _by_number(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...] | None:
    """Return the names sorted by the numbers in them, if they differ in nothing else."""
    if len({re.sub(r"[0-9]+", "0", name) for name in shapes}) > 1:
        return None
    return tuple(sorted(shapes, key=lambda name: [int(n) for n in re.findall("[0-9]+", name)]))


def _by_place(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...] | None:
    """Return the names sorted as input, hidden, output, if each is one of these."""
    places = {name: name.rpartition(".")[2] for name in shapes}
    if len(set(places.values()) & set(_PLACES)) < len(shapes):
        return None
    return tuple(sorted(shapes, key=lambda name: _PLACES.index(places[name])))


def _fitting_orders(shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, ...]]:
    """Return up to two orders in which the shapes fit; two if the search is too long."""
    found: list[tuple[str, ...]] = []
    waiting: list[tuple[str, ...]] = [(name,) for name in shapes]
    for _ in range(_ORDERS):
        if not waiting or len(found) == 2:
            return found
        order = waiting.pop()
        if len(order) == len(shapes):
            found.append(order)
            continue
        width = shapes[order[-1]][0]
        waiting += [
            (*order, name) for name in shapes if name not in order and shapes[name][1] == width
        ]
    return [(), ()]
