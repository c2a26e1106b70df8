"""The weights of the cases, made from fixed seeds alone, as files that other processes read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cases import RANDOM, Case
from benchmarks.tools import Weights
from lipbook import data
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.training import train

# Descent from the standard start wants a rate that falls like 1/m.
RATE_TIMES_WIDTH = 4.0
N_STEPS = 2000
N_SAMPLES = 512


def weights(case: Case) -> Weights:
    """Return W (m, d), b (m,), A (k, m) of a case."""
    ensemble = gaussian_ensemble(
        case.m, case.d, case.k, seeds=(case.seed,), activation=case.activation
    )
    if case.net != RANDOM:
        ensemble = _descended(ensemble, case.net)
    hidden, bias, output = (block[0].numpy() for block in list(ensemble.blocks())[:3])
    return hidden, bias, output


def _descended(start: Ensemble, name: str) -> Ensemble:
    """Return the network after full-batch descent from `start` on the data of that name."""
    dataset = _data(name)
    schedule = make_schedule("constant", RATE_TIMES_WIDTH / start.width, n_steps=N_STEPS)
    run = train(start, dataset.x, dataset.y, schedule, N_STEPS, steps=(0, N_STEPS), progress=False)
    return run.ensemble


def _data(name: str) -> data.Dataset:
    if name in data.REAL_DATA:
        return data.REAL_DATA[name]()
    target, _, input_dim = name.partition("-")
    return data.synthetic(target, N_SAMPLES, input_dim=int(input_dim), seed=0)


class Networks:
    """The weights of cases as files, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        """Keep the files in `folder`."""
        self.folder = folder
        self.files: dict[Case, Path] = {}

    def file(self, case: Case) -> Path:
        """Return the file of a case: what `numpy.savez` writes of W, b, A."""
        if case not in self.files:
            path = self.folder / f"{len(self.files)}.npz"
            np.savez(path, *weights(case))
            self.files[case] = path
        return self.files[case]
