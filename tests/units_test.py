import doctest

import pytest

from dcign_tf import units


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(units).failed == 0 < doctest.testmod(units).attempted


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (-0.0, "degrees", "0°"),
        (12.34567, "mm", "12.35 mm"),
        (2.5, units.LATENT, "2.5"),
        (1e6, "", "1e+06"),
    ],
)
def test_values_in_words(value: float, unit: str, text: str) -> None:
    assert units.text(value, unit) == text
