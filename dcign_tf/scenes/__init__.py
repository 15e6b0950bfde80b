"""Where images come from: meshes, morphable models, a camera, a light, a renderer. Knows nothing of networks."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping

from dcign_tf.errors import UsageError
from dcign_tf.scenes.morphable import MorphableModel


@dataclasses.dataclass(frozen=True)
class Source:
    """A place morphable models come from.

    Attributes:
        load: takes the user's path, or None, and whether the model is for photographs, and returns the model.
        needs_path: whether there must be a path; where not, there must be none.
        description: what it is, for help texts.
    """

    load: Callable[[str | None, bool], MorphableModel]
    needs_path: bool
    description: str


# Imported when asked for: a source may need packages, or seconds, that others do not.
def _builtin_face(_: str | None, photographic: bool) -> MorphableModel:
    from dcign_tf.scenes import builtin_face

    return builtin_face.builtin_face()


def _ict_facekit(path: str | None, photographic: bool) -> MorphableModel:
    from dcign_tf.scenes import ict_facekit

    assert path is not None
    return ict_facekit.load(path, photographic=photographic)


def _basel(path: str | None, photographic: bool) -> MorphableModel:
    from dcign_tf.scenes import basel

    assert path is not None
    return basel.load(path)


def _morphable_model(path: str | None, photographic: bool) -> MorphableModel:
    assert path is not None
    return MorphableModel.load(path)


SOURCES: Mapping[str, Source] = {
    "builtin_face": Source(_builtin_face, False, "a procedural head made by this package"),
    "ict_facekit": Source(
        _ict_facekit, True, "USC-ICT's head: its folder FaceXModel, or the compact .npz"
    ),
    "basel": Source(
        _basel,
        True,
        "the Basel Face Model: 01_MorphableModel.mat of 2009, or a .h5 of 2017 or 2019",
    ),
    "morphable_model": Source(
        _morphable_model, True, "any model that MorphableModel.save wrote (.npz)"
    ),
}


def load_source(name: str, path: str | None = None, photographic: bool = False) -> MorphableModel:
    """Loads the morphable model of a registered source.

    Args:
        name: a key of `SOURCES`.
        path: where the source's files are, for sources that need some.
        photographic: whether heads shall differ in what they differ in in photographs, too, where that makes a
            difference: of ict_facekit in hair and smiles.

    Raises:
        UsageError: there is no such source, or the path is missing or superfluous.
        DcignError: what is at the path is not what the source needs.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--source: got {name!r}, must be one of {', '.join(SOURCES)}{hint}")
    source = SOURCES[name]
    if source.needs_path and not path:
        raise UsageError(f"--source_path: missing; --source={name} needs it: {source.description}")
    if path and not source.needs_path:
        raise UsageError(f"--source_path: got {path!r}, but --source={name} reads no files")
    return source.load(path or None, photographic)
