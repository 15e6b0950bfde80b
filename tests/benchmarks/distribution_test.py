"""What the part on distribution models, and that its candidates do what they say."""

import pytest

from dcign_tf.benchmarks import distribution
from dcign_tf.benchmarks.sections import Settings
from dcign_tf.benchmarks.workers import Outcome


def test_a_ring_sends_twice_what_it_holds_less_a_share() -> None:
    assert distribution.all_reduce_seconds(100.0, 2, 10.0) == pytest.approx(10)
    assert distribution.all_reduce_seconds(100.0, 4, 10.0) == pytest.approx(15)
    assert distribution.all_reduce_seconds(100.0, 1, 10.0) == 0


def test_the_model_is_of_the_papers_network() -> None:
    rows = {row.candidate: row for row in distribution.modeled(Settings())}
    size = rows["gradients of a step"].median
    assert size == pytest.approx(4 * 4.99, abs=0.02)
    ethernet = rows["all-reduce, 10 Gbit/s for each device, 64"].median
    assert size and ethernet == pytest.approx(2 * 63 / 64 * size * 1e6 / 1.25e9 * 1e3)


def test_speeds_are_compared_turn_by_turn() -> None:
    outcomes = {
        distribution.ONE_CORE: Outcome(distribution.ONE_CORE, (1.0, 2.0, 3.0)),
        distribution.TWO_WORKERS: Outcome(distribution.TWO_WORKERS, (1.25, 2.5, 3.75)),
        distribution.ONE_DEVICE: Outcome(distribution.ONE_DEVICE, (1.0, 1.0, 1.0)),
        distribution.TWO_DEVICES: Outcome(distribution.TWO_DEVICES, (2.0, 2.0, 2.0)),
    }
    section = distribution.section(Settings(), outcomes)
    rows = {row.candidate: row for row in section.rows}
    found = [row.median for name, row in rows.items() if "speed" in name]
    assert found == [pytest.approx(80), pytest.approx(50)]
    assert section.pictures[distribution.PICTURE].startswith(b"\x89PNG")


def test_what_could_not_be_measured_is_not_drawn() -> None:
    outcomes = {
        distribution.ONE_DEVICE: Outcome(distribution.ONE_DEVICE, (1.0, 1.0)),
        distribution.TWO_DEVICES: Outcome(distribution.TWO_DEVICES, problem="no room"),
    }
    assert distribution.plot(Settings(), outcomes) != distribution.plot(Settings(), {})
