"""Exact Lipschitz constants of piecewise-linear networks of two inputs: a sweep of the lines."""
