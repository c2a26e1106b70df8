"""LipSDP in closed form: multipliers, the bounds they prove, and the search for good ones."""
