"""Training and Lipschitz constants of two-layer networks: the module that the notebooks call.

Importing the package imports nothing else, so that the command line answers at once.
"""

__version__ = "0.1.0"
