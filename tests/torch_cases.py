"""Torch modules and gradients made to do harm."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from lipbook.lipschitz.rounding import spectral_norm_lower

UP = 1 + 1e-10
FORMATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def perceptron(sizes, activation=nn.Tanh, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    model = nn.Sequential(*layers[:-1]).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) / p.shape[-1] ** 0.5)
    return model


def lowest(model):
    """A proved lower bound of the product of the norms of the stored weights; slopes up to 1."""
    weights = [m.weight.detach().double().numpy() for m in model if isinstance(m, nn.Linear)]
    return math.prod(float(spectral_norm_lower(w)) for w in weights) * (1 - 1e-13)


def sgd(model, lr=0.1, **options):
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


def set_gradients(model, g, size, along=True):
    """Gradients whose steps raise the norms of the layers as fast as they can, plus noise."""
    for p in model.parameters():
        new = torch.from_numpy(g.normal(size=tuple(p.shape)))
        if p.ndim == 2 and along:
            u, _, v = torch.linalg.svd(p.detach().double(), full_matrices=False)
            new = -u[:, :1] @ v[:1] * g.uniform(0, 3) + g.choice([0.0, 0.1]) * new
        p.grad = (size * new).clamp(-6e4, 6e4).to(p.dtype)
