"""A human head made by code alone."""

import functools

import numpy as np

from dcign_tf.scenes.builtin_face.traits import (
    ALBEDO_TRAITS,
    SHAPE_TRAITS,
    Head,
    central_difference,
)
from dcign_tf.scenes.morphable import MorphableModel

_CENTER = (0.0, -2.0, 1.0)
_RADIUS = 11.9


@functools.cache
def builtin_face() -> MorphableModel:
    """Makes the built-in head as a morphable model."""
    head = Head()
    return MorphableModel(
        mean_shape=head.vertices({}),
        shape_modes=np.stack([central_difference(head.vertices, t) for t in SHAPE_TRAITS]),
        mean_albedo=head.albedo({}),
        albedo_modes=np.stack([central_difference(head.albedo, t) for t in ALBEDO_TRAITS]),
        triangles=head.mesh.triangles,
        shape_mode_names=tuple(t.name for t in SHAPE_TRAITS),
        albedo_mode_names=tuple(t.name for t in ALBEDO_TRAITS),
        one_sided=np.array([t.one_sided for t in SHAPE_TRAITS + ALBEDO_TRAITS]),
        center=np.array(_CENTER),
        radius=_RADIUS,
        name="builtin_face",
        source="procedural head of dcign_tf, MIT licence",
    )
