"""Exact Lipschitz constants in any dimension: branch and bound over activation patterns.

`switches` writes the Jacobian as a sum over switches, one for each distinct kink hyperplane;
`node_bounds` bounds it where some switches are set; `feasibility` finds a point of a cell or
multipliers that show it empty; `search` grows a tree of these; `emptiness` and `tree` turn the
tree into a proof, which rests on nothing that the search computed.
"""
