"""The part tells what determinism costs."""

from dcign_tf.benchmarks import determinism
from dcign_tf.benchmarks.sections import Settings


def test_each_is_timed_as_it_says() -> None:
    tiny = Settings(38, (2, 2, 2), (2, 2, 2), 6, batch=2, rounds=3, warm_up=1, quick=True)
    section = determinism.measure(tiny)
    plain, deterministic = section.rows
    assert (plain.candidate, deterministic.candidate) == ("by default", "--deterministic")
    assert plain.median and deterministic.median
    assert plain.note == "" and deterministic.note.count("%") == 1
