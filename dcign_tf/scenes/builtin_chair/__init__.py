"""Chairs made by code alone: no models, no pictures, no data files.

How one is made, a module for each step:

1.  `traits`: its parameters are drawn. A kind (dining, windsor, office, ...) comes first and narrows the others.
2.  `plan`: where the seat and the back are.
3.  `seat`, `back`, `base`, `arms`: the parts, each a closed surface, made of what is in `solids`.

    chair = draw(np.random.default_rng(7))
    images = render_meshes([mesh(chair)], ...)
"""

import numpy as np

from dcign_tf.scenes.builtin_chair.arms import arms
from dcign_tf.scenes.builtin_chair.back import back
from dcign_tf.scenes.builtin_chair.base import base
from dcign_tf.scenes.builtin_chair.plan import Plan
from dcign_tf.scenes.builtin_chair.seat import seat
from dcign_tf.scenes.builtin_chair.solids import Part
from dcign_tf.scenes.builtin_chair.traits import PARAMETERS, Chair, Parameter, draw
from dcign_tf.scenes.render import Mesh

__all__ = ["PARAMETERS", "Chair", "Parameter", "Part", "draw", "mesh", "parts"]


def parts(chair: Chair) -> list[Part]:
    """The closed surfaces that a chair is made of, in centimeters; it stands on y = 0 and faces +z."""
    plan = Plan(chair)
    return [*seat(plan), *back(plan), *base(plan), *arms(plan)]


def mesh(chair: Chair) -> Mesh:
    """A chair as `render_meshes` takes it: within the unit sphere about the origin, which it touches."""
    all_parts = parts(chair)
    vertices = np.concatenate([part.vertices for part in all_parts])
    firsts = np.cumsum([0, *(len(part.vertices) for part in all_parts)])
    triangles = [part.triangles + first for part, first in zip(all_parts, firsts, strict=False)]
    vertices = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    vertices /= np.linalg.norm(vertices, axis=1).max()
    albedo = np.repeat(
        [part.shade for part in all_parts], [len(part.vertices) for part in all_parts]
    )
    return Mesh(vertices, albedo, np.concatenate(triangles))
