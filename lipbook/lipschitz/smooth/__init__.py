"""Lipschitz constants of smooth networks on boxes and balls: branch and bound over boxes."""
