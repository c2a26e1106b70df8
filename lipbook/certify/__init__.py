"""`lipbook certify`: the Lipschitz constant of a network in a file."""
