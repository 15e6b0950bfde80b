"""The part tells what determinism costs."""

from dcign_tf.benchmarks import determinism
from dcign_tf.benchmarks.sections import Settings
from dcign_tf.benchmarks.workers import Outcome


def test_the_cost_is_taken_turn_by_turn() -> None:
    # The machine was slower in the last two turns.
    outcomes = {
        determinism.DEFAULT: Outcome(determinism.DEFAULT, (0.1, 0.1, 0.2, 0.2)),
        determinism.DETERMINISTIC: Outcome(determinism.DETERMINISTIC, (0.11, 0.11, 0.22, 0.22)),
    }
    plain, deterministic = determinism.section(Settings(), outcomes).rows
    assert (plain.candidate, plain.note) == ("by default", "")
    assert (deterministic.candidate, deterministic.unit) == ("--deterministic", "ms")
    assert deterministic.note == "+10.0 % (+10.0 to +10.0)"
    assert deterministic.ratio is None
