"""Runs are killed and lied to, and end with the weights of one that was not."""

import pathlib

import pytest

from tests import chaos


def test_killed_and_damaged_it_ends_bit_for_bit_the_same(tmp_path: pathlib.Path) -> None:
    run = chaos.Chaos(tmp_path, steps=60)
    for fault in ("killed while it writes a checkpoint", "damaged checkpoint"):
        run.inject(fault)
    run.finish()
    assert run.counts and all(count == [1, 1, 0] for count in run.counts.values()), run.counts


def test_a_plan_has_all_faults() -> None:
    plan = chaos.plan(kills=30, times=3, only=[], seed=1)
    assert set(plan) == set(chaos.FAULTS)
    assert sum(name.startswith("killed") for name in plan) == 30
    assert chaos.plan(30, 3, ["SIGTERM"], 1) == 3 * ["SIGTERM"]


@pytest.mark.slow
def test_all_of_it_several_times() -> None:
    assert chaos.main([]) == 0
