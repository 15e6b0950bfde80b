"""What makes one chair differ from another: its parameters, and how they are drawn.

Chairs come in kinds, or random numbers would make furniture that nobody has seen: casters under a spindle back. A
kind narrows the parameters' ranges. It takes the same count of random numbers whatever it narrows.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A property of a chair.

    Attributes:
        name: of the attribute of `Chair`.
        meaning: what it is, with its unit.
        low: smallest value; for choices 0.
        high: largest value; for choices the number of the last one.
        choices: the values of a choice; none for numbers.
        whole: whether it is a whole number.
    """

    name: str
    meaning: str
    low: float
    high: float
    choices: tuple[str, ...] = ()
    whole: bool = False


def _number(meaning: str, low: float, high: float) -> Any:
    return dataclasses.field(metadata={"meaning": meaning, "low": low, "high": high})


def _count(meaning: str, low: int, high: int) -> Any:
    return dataclasses.field(metadata={"meaning": meaning, "low": low, "high": high, "whole": True})


def _choice(meaning: str, *choices: str) -> Any:
    return dataclasses.field(
        metadata={"meaning": meaning, "low": 0, "high": len(choices) - 1, "choices": choices}
    )


@dataclasses.dataclass(frozen=True)
class Chair:
    """All parameters of a chair; see `PARAMETERS` for their ranges. Lengths are centimeters, angles degrees."""

    # fmt: off
    kind: str = _choice(
        "what it is for", "dining", "windsor", "office", "armchair", "shell", "cantilever", "bar", "lounge"
    )
    base: str = _choice("what it stands on", "legs", "sled", "cantilever", "pedestal", "star")
    back: str = _choice("what one leans on", "solid", "slats", "spindles", "ladder", "cross", "hoop", "splat", "shell")
    arms: str = _choice("what the arms rest on", "none", "straight", "loop", "padded", "box")
    leg_section: str = _choice("shape of legs", "round", "square", "turned")
    stretchers: str = _choice("bars between legs", "none", "h", "box", "sides", "ring")
    cushion: str = _choice("loose cushions", "none", "seat", "both")
    shading: str = _choice("which parts have shades of their own", "frame", "upholstery", "seat", "all")
    casters: str = _choice("feet of a star", "casters", "glides")
    star_points: int = _count("arms of a star", 4, 5)
    bars: int = _count("slats or spindles in the back", 3, 9)
    rungs: int = _count("rails of a ladder back", 2, 5)

    seat_width: float = _number("width of the seat in front", 34, 68)
    seat_depth: float = _number("depth of the seat", 34, 60)
    seat_height: float = _number("height of the seat, without cushion", 26, 78)
    seat_thickness: float = _number("thickness of the seat", 1.2, 18)
    seat_taper: float = _number("by which fraction the seat is narrower behind", 0, 0.2)
    seat_front: float = _number("exponent of the outline in front: 2 round, 10 square", 2.2, 10)
    seat_rear: float = _number("exponent of the outline behind", 2.2, 10)
    seat_dish: float = _number("depth of the hollow; a dome where negative", -2.5, 2)
    seat_fall: float = _number("by how much the front edge falls", 0, 3.5)
    seat_tilt: float = _number("angle by which the seat rises to the front", 0, 8)
    seat_edge: float = _number("radius of the seat's edges", 0.3, 5)
    cushion_thickness: float = _number("thickness of loose cushions", 2.5, 14)
    cushion_dome: float = _number("by how much cushions are higher in the middle", 0.4, 3)

    back_height: float = _number("height of the back above the seat", 16, 78)
    back_width: float = _number("width of the back, as a fraction of the seat's", 0.75, 1.02)
    back_flare: float = _number("by which fraction the back is wider at its top", -0.18, 0.15)
    back_recline: float = _number("angle of the back", 4, 24)
    back_curve: float = _number("depth of the back's curve from side to side", 0, 6)
    back_bow: float = _number("depth of its curve from seat to top", -3, 4)
    back_thickness: float = _number("thickness of a solid back", 1.2, 16)
    back_gap: float = _number("fraction of the back's height that is open below", 0, 0.6)
    back_squareness: float = _number("exponent of its outline at the top: 2 round, 10 square", 2, 10)
    back_edge: float = _number("radius of the edges of a solid back", 0.3, 5)
    crest_height: float = _number("height of the top rail", 3.5, 13)
    crest_arch: float = _number("by how much the top rail is higher in the middle", -2, 5)
    bar_width: float = _number("width of slats and rails; a third of it for spindles", 2.4, 6.5)
    shell_depth: float = _number("by how much a shell's sides are raised", 0.5, 14)

    leg_thickness: float = _number("thickness of legs and tubes", 1.8, 6)
    leg_taper: float = _number("thickness of the feet, as a fraction", 0.45, 1)
    leg_splay: float = _number("angle of the legs to the sides and to the front", 0, 16)
    leg_rake: float = _number("angle of the rear legs to the back", 0, 18)
    leg_inset: float = _number("how far in legs start, as a fraction", 0, 0.3)
    apron: float = _number("height of the frame below the seat; below 2 there is none", 0, 8)
    stretcher_height: float = _number("height of the stretchers, as a fraction of the seat's", 0.12, 0.5)
    base_spread: float = _number("width of the base, as a fraction of the seat's", 0.8, 1.35)
    column_thickness: float = _number("thickness of a central column", 3.5, 10)
    base_slope: float = _number("by how much a star's hub or a pedestal's foot is raised", 0.5, 9)
    caster_size: float = _number("diameter of casters", 4.5, 6.5)

    arm_height: float = _number("height of the arms above the seat", 14, 27)
    arm_length: float = _number("length of the arms, as a fraction of the seat's depth", 0.5, 1)
    arm_width: float = _number("width of the arms", 2.4, 15)
    arm_flare: float = _number("by how much the arms stand out", 0, 5)

    frame_shade: float = _number("albedo of legs and frame", 0.12, 0.8)
    seat_shade: float = _number("albedo of the seat", 0.12, 0.85)
    back_shade: float = _number("albedo of the back", 0.12, 0.85)
    cushion_shade: float = _number("albedo of loose cushions", 0.12, 0.85)
    arm_shade: float = _number("albedo of the arms", 0.12, 0.85)
    # fmt: on

    @property
    def values(self) -> np.ndarray:
        """The parameters as numbers in the order of `PARAMETERS`, choices by their place; float32 [P]."""
        return np.array(
            [
                p.choices.index(getattr(self, p.name)) if p.choices else getattr(self, p.name)
                for p in PARAMETERS
            ],
            np.float32,
        )


PARAMETERS = tuple(Parameter(field.name, **field.metadata) for field in dataclasses.fields(Chair))

# For each kind: how often it is drawn, and what is narrower than in `PARAMETERS`. A choice that is to be drawn more
# often than others is there more than once.
_Range = tuple[float, float] | Sequence[str]
_WOOD: Mapping[str, _Range] = {
    "shading": ["frame", "frame", "seat", "upholstery", "all"],
    "back_curve": (0, 4),
    "back_bow": (-0.5, 1.5),
    "seat_tilt": (0, 2),
    "leg_inset": (0, 0.06),
}
_KINDS: Mapping[str, tuple[float, Mapping[str, _Range]]] = {
    "dining": (
        5,
        {
            **_WOOD,
            "base": ["legs"],
            "back": ["slats", "slats", "ladder", "ladder", "solid", "cross", "spindles", "splat"],
            "arms": ["none", "none", "none", "straight"],
            "leg_section": ["square", "square", "round", "turned"],
            "stretchers": ["none", "none", "h", "box", "sides"],
            "cushion": ["none", "none", "seat"],
            "seat_width": (40, 50),
            "seat_depth": (38, 46),
            "seat_height": (42, 47),
            "seat_thickness": (1.8, 4.5),
            "seat_taper": (0.04, 0.2),
            "seat_front": (5, 10),
            "seat_rear": (8, 10),
            "seat_dish": (-1, 0.8),
            "seat_fall": (0, 1),
            "seat_edge": (0.3, 1.5),
            "cushion_thickness": (2.5, 5),
            "cushion_dome": (0.4, 1.5),
            "back_height": (36, 62),
            "back_width": (0.98, 1.02),
            "back_flare": (-0.12, 0.08),
            "back_recline": (5, 13),
            "back_thickness": (1.2, 4),
            "back_gap": (0.08, 0.45),
            "back_squareness": (3, 10),
            "back_edge": (0.3, 1.5),
            "crest_height": (4, 12),
            "bar_width": (2.4, 6),
            "leg_thickness": (2.8, 4.6),
            "leg_splay": (0, 3),
            "leg_rake": (3, 12),
            "apron": (0, 7),
            "arm_height": (18, 24),
            "arm_length": (0.6, 0.95),
            "arm_width": (3, 5.5),
            "arm_flare": (0, 2),
        },
    ),
    "windsor": (
        3,
        {
            **_WOOD,
            "base": ["legs"],
            "back": ["hoop", "hoop", "spindles"],
            "arms": ["none", "none", "straight"],
            "leg_section": ["turned", "round"],
            "stretchers": ["h", "h", "box", "none"],
            "cushion": ["none", "none", "none", "seat"],
            "shading": ["frame", "frame", "frame", "seat"],
            "bars": (5, 9),
            "seat_width": (41, 50),
            "seat_depth": (39, 45),
            "seat_height": (42, 46),
            "seat_thickness": (3, 4.5),
            "seat_taper": (0.02, 0.2),
            "seat_front": (2.2, 4),
            "seat_rear": (2.2, 4),
            "seat_dish": (0.6, 2),
            "seat_fall": (0, 0.8),
            "seat_edge": (0.6, 1.6),
            "cushion_thickness": (2.5, 4),
            "cushion_dome": (0.4, 1),
            "back_height": (42, 58),
            "back_width": (0.76, 0.92),
            "back_flare": (0, 0.15),
            "back_recline": (7, 15),
            "back_squareness": (2, 3.5),
            "crest_height": (4, 9),
            "bar_width": (3.6, 5.4),
            "leg_thickness": (3, 4.4),
            "leg_taper": (0.5, 0.9),
            "leg_splay": (8, 14),
            "leg_rake": (9, 16),
            "leg_inset": (0.1, 0.24),
            "apron": (0, 0),
            "stretcher_height": (0.3, 0.5),
            "arm_height": (19, 24),
            "arm_length": (0.65, 0.9),
            "arm_width": (3.5, 5.5),
        },
    ),
    "office": (
        4,
        {
            "base": ["star"],
            "back": ["solid"],
            "arms": ["none", "loop", "padded", "padded"],
            "cushion": ["none"],
            "shading": ["upholstery", "upholstery", "all"],
            "casters": ["casters", "casters", "casters", "glides"],
            "star_points": (5, 5),
            "seat_width": (44, 54),
            "seat_depth": (42, 52),
            "seat_height": (42, 54),
            "seat_thickness": (4, 9.5),
            "seat_taper": (0, 0.15),
            "seat_front": (3, 7),
            "seat_rear": (2.6, 5),
            "seat_dish": (-1.5, 0.5),
            "seat_fall": (0.5, 3.5),
            "seat_tilt": (0, 3),
            "seat_edge": (1.8, 4),
            "back_height": (34, 78),
            "back_width": (0.78, 1),
            "back_flare": (-0.18, 0.08),
            "back_recline": (4, 14),
            "back_curve": (1, 6),
            "back_bow": (0, 4),
            "back_thickness": (2.5, 9),
            "back_gap": (0.08, 0.36),
            "back_squareness": (2.5, 7),
            "back_edge": (1.2, 4),
            "leg_thickness": (3, 5),
            "leg_taper": (0.45, 0.9),
            "base_spread": (1.1, 1.35),
            "column_thickness": (4.5, 6.5),
            "base_slope": (2, 8),
            "arm_height": (17, 24),
            "arm_length": (0.5, 0.68),
            "arm_width": (4.5, 9),
            "arm_flare": (2, 5),
            "frame_shade": (0.12, 0.55),
        },
    ),
    "armchair": (
        3,
        {
            "base": ["legs", "legs", "legs", "sled"],
            "back": ["solid"],
            "arms": ["box"],
            "leg_section": ["square", "round"],
            "stretchers": ["none"],
            "cushion": ["seat", "seat", "both"],
            "shading": ["upholstery", "upholstery", "upholstery", "all"],
            "seat_width": (54, 68),
            "seat_depth": (50, 60),
            "seat_height": (26, 34),
            "seat_thickness": (10, 18),
            "seat_taper": (0, 0.06),
            "seat_front": (9, 10),
            "seat_rear": (9, 10),
            "seat_dish": (0, 0),
            "seat_fall": (0, 0),
            "seat_tilt": (0, 2),
            "seat_edge": (1, 3),
            "cushion_thickness": (8, 14),
            "cushion_dome": (0.6, 2.5),
            "back_height": (38, 66),
            "back_width": (0.98, 1.02),
            "back_flare": (-0.08, 0.08),
            "back_recline": (5, 16),
            "back_curve": (0, 2),
            "back_bow": (0, 1),
            "back_thickness": (9, 16),
            "back_gap": (0, 0),
            "back_squareness": (3.5, 10),
            "back_edge": (1.5, 5),
            "leg_thickness": (3.5, 6),
            "leg_splay": (0, 10),
            "leg_rake": (0, 12),
            "leg_inset": (0.02, 0.1),
            "apron": (0, 0),
            "arm_height": (17, 27),
            "arm_length": (0.85, 1),
            "arm_width": (7, 15),
            "arm_flare": (0, 2),
        },
    ),
    "shell": (
        4,
        {
            "base": ["legs", "legs", "legs", "sled", "pedestal", "star"],
            "back": ["shell"],
            "arms": ["none"],
            "leg_section": ["round", "round", "square"],
            "stretchers": ["none", "none", "sides", "h"],
            "cushion": ["none", "none", "seat"],
            "shading": ["upholstery", "upholstery", "frame"],
            "casters": ["glides", "glides", "casters"],
            "seat_width": (42, 56),
            "seat_depth": (40, 48),
            "seat_height": (41, 46),
            "seat_thickness": (1.2, 3.5),
            "seat_taper": (0, 0.16),
            "seat_front": (4, 10),
            "seat_rear": (4, 6),
            "seat_fall": (0.5, 3),
            "seat_tilt": (1, 6),
            "cushion_thickness": (2.5, 3.5),
            "cushion_dome": (0.4, 1),
            "back_height": (34, 46),
            "back_width": (0.75, 1),
            "back_recline": (9, 20),
            "back_curve": (1, 5),
            "back_squareness": (2.4, 7),
            "leg_thickness": (1.8, 4),
            "leg_splay": (4, 14),
            "leg_rake": (6, 16),
            "leg_inset": (0.12, 0.3),
            "apron": (0, 0),
            "base_spread": (0.9, 1.2),
            "column_thickness": (4, 9),
            "base_slope": (0.5, 9),
            "stretcher_height": (0.3, 0.5),
        },
    ),
    "cantilever": (
        2,
        {
            "base": ["cantilever", "cantilever", "sled"],
            "back": ["solid"],
            "arms": ["none", "none", "loop"],
            "cushion": ["none"],
            "shading": ["upholstery", "upholstery", "all"],
            "seat_width": (43, 52),
            "seat_depth": (40, 46),
            "seat_height": (42, 46),
            "seat_thickness": (1.5, 6),
            "seat_taper": (0, 0.06),
            "seat_front": (6, 10),
            "seat_rear": (6, 10),
            "seat_dish": (-1, 0.5),
            "seat_fall": (0.3, 2.5),
            "seat_tilt": (0, 4),
            "seat_edge": (0.5, 2.5),
            "back_height": (34, 50),
            "back_width": (0.96, 1),
            "back_flare": (-0.04, 0.04),
            "back_recline": (6, 16),
            "back_curve": (0, 3.5),
            "back_bow": (0, 2),
            "back_thickness": (1.4, 5),
            "back_gap": (0.2, 0.55),
            "back_squareness": (3.5, 10),
            "back_edge": (0.5, 2.5),
            "leg_thickness": (2, 3),
            "arm_height": (18, 23),
            "arm_length": (0.6, 0.85),
            "arm_flare": (1, 3),
        },
    ),
    "bar": (
        2.5,
        {
            **_WOOD,
            "base": ["legs", "legs", "legs", "pedestal"],
            "back": ["solid", "ladder", "slats", "spindles"],
            "arms": ["none"],
            "leg_section": ["square", "round", "round"],
            "stretchers": ["box", "ring"],
            "cushion": ["none", "none", "seat"],
            "rungs": (2, 3),
            "seat_width": (34, 43),
            "seat_depth": (34, 40),
            "seat_height": (60, 78),
            "seat_thickness": (2, 6),
            "seat_taper": (0, 0.1),
            "seat_front": (2.4, 9),
            "seat_rear": (6, 10),
            "seat_dish": (-1, 1),
            "seat_fall": (0, 1),
            "seat_edge": (0.4, 2.5),
            "cushion_thickness": (2.5, 4.5),
            "cushion_dome": (0.4, 1.5),
            "back_height": (16, 34),
            "back_width": (0.94, 1),
            "back_flare": (-0.05, 0.08),
            "back_recline": (4, 10),
            "back_thickness": (1.4, 4),
            "back_gap": (0.15, 0.5),
            "back_squareness": (3, 9),
            "back_edge": (0.4, 1.6),
            "crest_height": (4, 9),
            "crest_arch": (-1, 2),
            "leg_thickness": (2.4, 4.4),
            "leg_splay": (2, 7),
            "leg_rake": (2, 8),
            "apron": (0, 6),
            "stretcher_height": (0.25, 0.42),
            "base_spread": (0.95, 1.2),
            "column_thickness": (4.5, 7),
            "base_slope": (1, 5),
        },
    ),
    "lounge": (
        2.5,
        {
            **_WOOD,
            "base": ["legs"],
            "back": ["ladder", "slats", "solid"],
            "arms": ["straight"],
            "leg_section": ["square", "round"],
            "stretchers": ["none", "none", "sides"],
            "cushion": ["both"],
            "shading": ["upholstery"],
            "seat_width": (54, 64),
            "seat_depth": (50, 58),
            "seat_height": (28, 34),
            "seat_thickness": (2.5, 4),
            "seat_taper": (0, 0.05),
            "seat_front": (9, 10),
            "seat_rear": (9, 10),
            "seat_dish": (0, 0),
            "seat_fall": (0, 0),
            "seat_tilt": (4, 8),
            "seat_edge": (0.3, 1),
            "cushion_thickness": (9, 13),
            "cushion_dome": (0.8, 3),
            "back_height": (48, 68),
            "back_width": (0.98, 1.02),
            "back_flare": (-0.05, 0.05),
            "back_recline": (15, 24),
            "back_thickness": (2, 4),
            "back_gap": (0.1, 0.2),
            "back_squareness": (5, 10),
            "back_edge": (0.4, 1),
            "crest_height": (4, 8),
            "crest_arch": (-1, 2),
            "leg_thickness": (3.5, 5.5),
            "leg_splay": (0, 6),
            "leg_rake": (4, 16),
            "apron": (3, 7),
            "stretcher_height": (0.25, 0.5),
            "arm_height": (22, 27),
            "arm_length": (0.85, 1),
            "arm_width": (5, 9),
            "arm_flare": (0, 2),
        },
    ),
}


def draw(rng: np.random.Generator) -> Chair:
    """A random chair; takes as many random numbers from `rng` as there are parameters."""
    numbers = rng.random(len(PARAMETERS))
    kinds = list(_KINDS)
    weights = np.array([_KINDS[kind][0] for kind in kinds])
    kind = kinds[int(np.searchsorted(np.cumsum(weights) / weights.sum(), numbers[0], "right"))]
    narrower = _KINDS[kind][1]
    values: dict[str, Any] = {"kind": kind}
    for parameter, number in zip(PARAMETERS[1:], numbers[1:], strict=True):
        default = parameter.choices or (parameter.low, parameter.high)
        allowed: Any = narrower.get(parameter.name, default)
        if parameter.choices:
            values[parameter.name] = allowed[int(number * len(allowed))]
        elif parameter.whole:
            low, high = round(allowed[0]), round(allowed[1])
            values[parameter.name] = low + int(number * (high + 1 - low))
        else:
            values[parameter.name] = float(allowed[0] + number * (allowed[1] - allowed[0]))
    return Chair(**_matched(values))


def _matched(values: dict[str, Any]) -> dict[str, Any]:
    """Lets parts have the shade of others, as `shading` says."""
    shading = values["shading"]
    if shading == "frame":
        same = {
            "seat_shade": "frame_shade",
            "back_shade": "frame_shade",
            "arm_shade": "frame_shade",
        }
    elif shading == "seat":
        same = {"back_shade": "frame_shade", "arm_shade": "frame_shade"}
    elif shading == "upholstery":
        same = {"back_shade": "seat_shade"}
        if values["arms"] == "box":
            same["arm_shade"] = "seat_shade"
        elif values["kind"] != "office":
            same["arm_shade"] = "frame_shade"
    else:
        same = {}
    return values | {name: values[other] for name, other in same.items()}
