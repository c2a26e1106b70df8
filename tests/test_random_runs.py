"""The random runs hold enough of each kind to mean something."""

from __future__ import annotations

from collections import Counter

from random_runs import KINDS, batches, kind_of


def test_there_are_enough_of_each_kind() -> None:
    found = Counter(
        kind_of(batch.run, i) for batch in batches() for i in range(batch.run.ensemble.size)
    )
    assert sum(found.values()) >= 200
    assert all(found[kind] >= 0.2 * sum(found.values()) for kind in KINDS), found


def test_they_cover_losses_activations_and_schedules() -> None:
    assert {batch.setting.loss.name for batch in batches()} == {"mse", "huber"}
    assert len({batch.setting.activation.name for batch in batches()}) == 8
    assert len({s.name for batch in batches() for s in batch.run.schedules}) == 5
