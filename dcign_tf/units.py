"""Values of factors in words: 30°, 0.5 m, 3."""

import math

DEGREES = "degrees"
# Of factors whose true values nobody knows: all there is to tell of one is its latent.
LATENT = "latent units"


def text(value: float, unit: str, digits: int = 4) -> str:
    """A value with its unit.

    Example:
        >>> text(-30.0, "degrees"), text(0.5, "m"), text(3.0, ""), text(float("nan"), "degrees")
        ('-30°', '0.5 m', '3', '?')

    Args:
        value: the value; NaN where nobody knows it.
        unit: "degrees" for angles, "" for pure numbers; `LATENT` goes without saying.
        digits: significant ones.
    """
    if math.isnan(value):
        return "?"
    # Adding zero takes the sign off a zero.
    return f"{float(value) + 0.0:.{digits}g}{suffix(unit)}"


def suffix(unit: str) -> str:
    """What stands behind a number of this unit."""
    return {DEGREES: "°", LATENT: "", "": ""}.get(unit, f" {unit}")


def words(unit: str) -> str:
    """What stands behind the name of a quantity, as on an axis; such as ", degrees"."""
    return f", {unit}" if unit else ""
