"""Training runs that several pages or sweeps look at together."""
