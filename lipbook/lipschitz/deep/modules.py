"""Reading a torch `nn.Sequential`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipbook.activations import ACTIVATIONS, Activation
from lipbook.lipschitz.deep.chain import Chain, leaky_relu

# By the name of the class, with the attributes that must have one value for σ to be the one meant.
_PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "ReLU": ("relu", {}),
    "Tanh": ("tanh", {}),
    "Sigmoid": ("sigmoid", {}),
    "Softplus": ("softplus", {"beta": 1}),
    "GELU": ("gelu", {"approximate": "none"}),
    "SiLU": ("silu", {}),
}
_PASSED_OVER = ("Identity", "Flatten", "Dropout")


def chain_of(module: Any) -> Chain:
    """Return the `Chain` of a torch `nn.Sequential` of Linear layers and one kind of activation.

    Nested Sequentials are flattened; Identity, Flatten and Dropout (as in evaluation) are passed
    over. A last activation is followed by the identity.

    Raises:
        ValueError: another kind of module, a hook, or layers that make no perceptron.
    """
    chain = Chain()
    for part in _leaves(module):
        kind = type(part).__name__
        if part._forward_hooks or part._forward_pre_hooks:
            raise ValueError(
                f"`module` must hold plain layers. Got hooks on {kind}. Remove the hooks."
            )
        if kind == "Linear":
            bias = None if part.bias is None else part.bias
            chain = chain.affine(part.weight, bias)
        elif kind not in _PASSED_OVER:
            chain = chain.activate(_activation_of(part, kind))
    return chain.finished()


def _leaves(module: Any) -> list[Any]:
    if type(module).__name__ == "Sequential":
        # Not children(), which passes over a layer that comes a second time.
        return [leaf for child in module for leaf in _leaves(child)]
    if list(module.children()) or not type(module).__module__.startswith("torch.nn."):
        raise ValueError(
            "`module` must be an nn.Sequential of Linear layers and activations. "
            f"Got {type(module).__name__}. Pass its layers as a list of pairs (weight, bias)."
        )
    return [module]


def _activation_of(module: Any, kind: str) -> Activation:
    if kind == "LeakyReLU":
        return leaky_relu(float(module.negative_slope))
    name, wanted = _PLAIN.get(kind, ("", {}))
    odd = [key for key, value in wanted.items() if getattr(module, key) != value]
    if not name or odd:
        shown = kind + "".join(f" with {key}={getattr(module, key)!r}" for key in odd)
        names = ", ".join([*_PLAIN, "LeakyReLU"])
        raise ValueError(
            f"`module` must hold Linear layers and one of {names}. Got {shown}. Use one of these."
        )
    return ACTIVATIONS[name]


def is_module(value: Any) -> bool:
    """Tell whether `value` is a torch module rather than a list of layers."""
    return hasattr(value, "children") and not isinstance(value, list | tuple | np.ndarray)
