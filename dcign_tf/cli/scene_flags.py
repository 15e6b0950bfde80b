"""The flags that say which scenes to render and how many, for all commands that render."""

import os
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from dcign_tf.errors import UsageError

if TYPE_CHECKING:
    from dcign_tf.datasets.scenes import SceneConfig
    from dcign_tf.datasets.source import GroupSource


class _RangeParser(flags.ArgumentParser):
    """Parses `-90,90` to a pair of floats."""

    syntactic_help = "two angles in degrees, as in -90,90"

    def parse(self, argument: Any) -> tuple[float, float]:
        if isinstance(argument, tuple):
            return argument
        try:
            low, high = (float(part) for part in argument.split(","))
        except ValueError:
            raise ValueError(f"it takes {self.syntactic_help}") from None
        return low, high

    def flag_type(self) -> str:
        return "two floats"


class _RangeSerializer(flags.ArgumentSerializer):
    def serialize(self, value: Any) -> str:
        return ",".join(f"{v:g}" for v in value)


def define(flag_values: flags.FlagValues) -> None:
    """Defines the flags of the scenes and of how many there are.

    Their defaults are those of `SceneConfig`, of `Camera` and `Shading`, and of `standard_groups`, stated once more
    so that a command can answer `--help` without what it takes to render.
    """
    group = {"flag_values": flag_values}
    flags.DEFINE_string(
        "source",
        "builtin_face",
        "where the shapes come from: builtin_face, ict_facekit, basel or morphable_model",
        **group,
    )
    flags.DEFINE_string(
        "source_path",
        None,
        "the source's files: for ict_facekit its folder FaceXModel or the compact .npz, for basel its .mat or "
        ".h5, for morphable_model its .npz",
        **group,
    )
    flags.DEFINE_integer("image_size", 150, "height and width of the images in pixels", **group)
    flags.DEFINE_integer("group_size", 20, "images in a mini-batch", **group)
    for name, default, text in (
        ("azimuth_range", (-90.0, 90.0), "lowest and highest azimuth of the head in degrees"),
        ("elevation_range", (-25.0, 25.0), "lowest and highest elevation of the head in degrees"),
        ("light_range", (-80.0, 80.0), "lowest and highest azimuth of the light in degrees"),
    ):
        flags.DEFINE(_RangeParser(), name, default, text, serializer=_RangeSerializer(), **group)
    flags.DEFINE_integer("seed", 0, "of all that is random", **group)
    for name, value, text in (
        ("zoom", 1.0, "magnification; 1 shows the whole head"),
        ("field_of_view", 20.0, "the camera's vertical angle of view in degrees"),
        ("ambient", 0.2, "light from everywhere, as a fraction of white"),
        ("diffuse", 0.8, "Lambertian reflection of the one light, as a fraction of white"),
        ("specular", 0.08, "strength of the highlight, as a fraction of white"),
        ("shininess", 12.0, "exponent of the highlight; larger is smaller and sharper"),
        ("light_elevation", 15.0, "height of the light above the camera in degrees"),
        ("background", 0.0, "grey value behind the head, 0 (black) to 1 (white)"),
    ):
        flags.DEFINE_float(name, value, text, **group)
    flags.DEFINE_integer(
        "supersample", 2, "samples per pixel along each axis (anti-aliasing)", **group
    )
    for name, count, text in (
        ("train_groups", 3000, "mini-batches of each factor to train on"),
        ("validation_groups", 60, "mini-batches of each factor for validation"),
        ("test_groups", 100, "mini-batches of each factor for the test"),
        (
            "mixed_images",
            2000,
            "images of each split in which everything varies; rounded up to whole mini-batches",
        ),
    ):
        flags.DEFINE_integer(name, count, text, lower_bound=0, **group)
    flags.DEFINE_integer(
        "processes", None, "processes that render; default: all cores", lower_bound=1, **group
    )


def scene_config_from_flags(flag_values: flags.FlagValues) -> "SceneConfig":
    """The scenes the flags describe.

    Raises:
        UsageError: a value is impossible; the message names the flag.
    """
    import dataclasses

    from dcign_tf.datasets.scenes import SceneConfig

    names = (field.name for field in dataclasses.fields(SceneConfig))
    return SceneConfig(**{name: flag_values[name].value for name in names})


def groups_from_flags(flag_values: flags.FlagValues) -> dict[str, dict[str, int]]:
    """How many groups of each split and factor the flags ask for."""
    from dcign_tf.datasets.rendering import standard_groups

    return standard_groups(
        train=flag_values["train_groups"].value,
        validation=flag_values["validation_groups"].value,
        test=flag_values["test_groups"].value,
        mixed_images=flag_values["mixed_images"].value,
        group_size=flag_values["group_size"].value,
    )


def source_from_flags(
    flag_values: flags.FlagValues, directory: str | os.PathLike[str], on_the_fly: bool = False
) -> "GroupSource":
    """The data set in a folder, rendered first where it is not there; or a source that renders on the fly.

    Args:
        flag_values: the flags `define` defined.
        directory: the data set's folder.
        on_the_fly: whether to keep nothing on disk.

    Raises:
        UsageError: the data set in the folder is not the one that flags on the command line describe. `--seed` does not
            count: it may mean the training's alone.
        DcignError: see `render_dataset` and `RecordSource`.
    """
    from dcign_tf.datasets.rendering import render_dataset
    from dcign_tf.datasets.source import RecordSource, RenderedSource

    if on_the_fly:
        return RenderedSource(scene_config_from_flags(flag_values))
    folder = pathlib.Path(directory)
    if not (folder / "manifest.json").exists():
        render_dataset(
            scene_config_from_flags(flag_values),
            folder,
            groups_from_flags(flag_values),
            flag_values["processes"].value,
        )
        return RecordSource(folder)
    source = RecordSource(folder)
    for name, there in source.manifest.settings.items():
        if name in ("seed", "source_path") or name not in flag_values:
            continue
        asked = flag_values[name].value
        asked = list(asked) if isinstance(asked, tuple) else asked
        if flag_values[name].present and asked != there:
            raise UsageError(
                f"--{name}: got {asked}, but the data set in {folder} has {there}; "
                "leave the flag out or name another folder"
            )
    return source
