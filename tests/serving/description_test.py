"""A served model tells what its factors are."""

import pytest
import tensorflow as tf

from tests.serving import served


def test_ranges_and_units_by_name() -> None:
    there = served.served()
    names = list(there.local.factor_ranges)[::-1]
    found = there.call("factors", factor=names)
    assert found["index"].tolist() == [*range(len(names))][::-1]
    for number, name in enumerate(names):
        assert (found["low"][number], found["high"][number]) == pytest.approx(
            there.local.factor_ranges[name], rel=1e-5
        )
        assert found["period"][number] == 0
        assert found["unit"][number].decode() == there.local.units[name]
    assert there.call("factors", factor=names[:1] * 3)["unit"].shape == (3,)


def test_other_names_are_refused() -> None:
    there = served.served()
    name = next(iter(there.local.factor_ranges))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"factor: got roll, x; this model has {name}"
    ):
        there.call("factors", factor=["roll", name, "x"])
