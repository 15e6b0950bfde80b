"""The flags that say which images to make and how many, for all commands that render or pack."""

import math
import os
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags

from dcign_tf.errors import UsageError

if TYPE_CHECKING:
    from dcign_tf.datasets.manifest import Manifest
    from dcign_tf.datasets.rendering import GroupMaker
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


class _NumbersParser(flags.ArgumentParser):
    """Parses `a=1,b=0.5` to a dictionary of numbers."""

    syntactic_help = "names and numbers, as in a=1,b=0.5"

    def parse(self, argument: Any) -> dict[str, float]:
        if isinstance(argument, dict):
            return argument
        numbers = {}
        for part in argument.split(","):
            name, _, value = part.partition("=")
            try:
                numbers[name.strip()] = float(value)
            except ValueError:
                raise ValueError(f"it takes {self.syntactic_help}") from None
        return numbers

    def flag_type(self) -> str:
        return "names and numbers"


class _NumbersSerializer(flags.ArgumentSerializer):
    def serialize(self, value: Any) -> str:
        return ",".join(f"{name}={number!r}" for name, number in value.items())


class _ThreeParser(flags.ArgumentParser):
    """Parses `0.8,0.1,0.1` to three floats."""

    syntactic_help = "three numbers, as in 0.8,0.1,0.1"

    def parse(self, argument: Any) -> tuple[float, ...]:
        if isinstance(argument, tuple):
            return argument
        try:
            numbers = tuple(float(part) for part in argument.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"it takes {self.syntactic_help}")
        return numbers

    def flag_type(self) -> str:
        return "three floats"


def define(flag_values: flags.FlagValues) -> None:
    """Defines the flags of the scenes and of how many there are.

    Their defaults are those of `SceneConfig`, of `Camera` and `Shading`, and of `standard_groups`, stated once more
    so that a command can answer `--help` without what it takes to render.
    """
    group = {"flag_values": flag_values}
    flags.DEFINE_string(
        "source",
        "builtin_face",
        "where the images come from: rendered scenes of builtin_face, ict_facekit, basel, morphable_model or "
        "builtin_chairs, or the images of authors, folders, table, chairs or factor_grid",
        **group,
    )
    flags.DEFINE_string(
        "source_path",
        None,
        "the source's files: for ict_facekit its folder FaceXModel or the compact .npz, for basel its .mat or "
        ".h5, for morphable_model its .npz, for images their folder or file",
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
    flags.DEFINE_enum(
        "photographic",
        "off",
        ["off", "plain", "full"],
        "let light, film and framing vary with the identity, as in photographs of people, and of ict_facekit hair and "
        "smiles: plain, before black; full, before random backgrounds and with clothes. Instead of --ambient, "
        "--diffuse, --specular, --light_elevation and --background",
        **group,
    )
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
        "processes", None, "processes that work; default: all cores", lower_bound=1, **group
    )


def define_tables(flag_values: flags.FlagValues) -> None:
    """Defines the flags that say how images that there are become mini-batches; defaults are those of `Grouping`."""
    group = {"flag_values": flag_values}
    flags.DEFINE_multi_string(
        "source_option",
        [],
        "an option of a source of images, <name>=<value>; give it again for more",
        **group,
    )
    flags.DEFINE_list(
        "factors",
        None,
        "which factors of the images are extrinsic, in the order of the code; default: all the source knows. The "
        "others are left to the intrinsic latents",
        **group,
    )
    flags.DEFINE(
        _NumbersParser(),
        "tolerance",
        None,
        "how far apart values of a factor may lie and still count as equal, in its unit: <factor>=<number>",
        serializer=_NumbersSerializer(),
        **group,
    )
    flags.DEFINE_string(
        "crop",
        "center",
        "center for the central square of the images, or left,top,right,bottom of a square in their pixels",
        **group,
    )
    flags.DEFINE(
        _ThreeParser(),
        "split",
        None,
        "identities for training, validation and test, as fractions or numbers; default: the source's own split, or "
        "0.8,0.1,0.1; of built-in chairs 1200,50,150",
        serializer=_RangeSerializer(),
        **group,
    )
    flags.DEFINE_enum(
        "split_by",
        "auto",
        ["auto", "identity", "image"],
        "whether identities are held out, or single images; auto holds out identities if there are ten or more",
        **group,
    )


def maker_from_flags(flag_values: flags.FlagValues) -> "GroupMaker":
    """What makes the mini-batches that the flags of `define` and `define_tables` describe.

    Raises:
        UsageError: a value is impossible, or a flag makes no sense for this source; the message names the flag.
        DcignError: the source cannot be read.
    """
    import dataclasses

    from dcign_tf.datasets import chair_scenes
    from dcign_tf.datasets.chair_scenes import ChairConfig, ChairSampler
    from dcign_tf.datasets.readers import READERS, load_table
    from dcign_tf.datasets.scenes import SceneConfig, SceneSampler
    from dcign_tf.scenes import SOURCES

    name = flag_values["source"].value
    of_scenes, of_chairs = (
        {field.name for field in dataclasses.fields(config)}
        for config in (SceneConfig, ChairConfig)
    )
    of_tables = {
        *flags_of(define_tables),
        "source",
        "source_path",
        "image_size",
        "group_size",
        "seed",
    }
    # Which flags make sense for which sources.
    kinds = ((SOURCES, of_scenes), ((chair_scenes.SOURCE,), of_chairs), (READERS, of_tables))
    own = next((there for sources, there in kinds if name in sources), None)
    if own is None:
        known = ", ".join(source for sources, _ in kinds for source in sources)
        raise UsageError(f"--source: got {name!r}, must be one of {known}")
    for other in sorted((of_scenes | of_tables) - own):
        if flag_values[other].present:
            right = [source for sources, there in kinds if other in there for source in sources]
            raise UsageError(
                f"--{other}: makes no sense with --source={name}; it is for {', '.join(right)}"
            )
    if own is of_scenes:
        return SceneSampler(scene_config_from_flags(flag_values))
    value = {flag: flag_values[flag].value for flag in own}
    if own is of_chairs:
        if value["split"] is None:
            del value["split"]
        else:  # as whole numbers, where they are
            value["split"] = tuple(int(n) if n == int(n) else n for n in value["split"])
        return ChairSampler(ChairConfig(**value))

    from dcign_tf.datasets.grouping import Grouping, TableGroups

    grouping = Grouping(
        image_size=value["image_size"],
        group_size=value["group_size"],
        seed=value["seed"],
        factors=None if value["factors"] is None else tuple(value["factors"]),
        tolerance=value["tolerance"] or {},
        crop=value["crop"],
        split=value["split"],
        split_by=value["split_by"],
    )
    origin = {flag: value[flag] for flag in ("source", "source_path", "source_option")}
    table = load_table(
        name,
        value["source_path"],
        value["source_option"],
        seed=value["seed"],
        factors=value["factors"],
    )
    return TableGroups(table, grouping, origin)


def flags_of(define_them: Callable[[flags.FlagValues], None]) -> list[str]:
    """The names of the flags that a function defines."""
    values = flags.FlagValues()
    define_them(values)
    return list(values)


def scene_config_from_flags(flag_values: flags.FlagValues) -> "SceneConfig":
    """The scenes the flags describe.

    Raises:
        UsageError: a value is impossible; the message names the flag.
    """
    import dataclasses

    from dcign_tf.datasets.scenes import SceneConfig

    names = (field.name for field in dataclasses.fields(SceneConfig))
    return SceneConfig(**{name: flag_values[name].value for name in names})


def groups_from_flags(
    flag_values: flags.FlagValues, factors: tuple[str, ...]
) -> dict[str, dict[str, int]]:
    """How many groups of each split and factor the flags ask for."""
    from dcign_tf.datasets.rendering import standard_groups

    return standard_groups(
        train=flag_values["train_groups"].value,
        validation=flag_values["validation_groups"].value,
        test=flag_values["test_groups"].value,
        mixed_images=flag_values["mixed_images"].value,
        group_size=flag_values["group_size"].value,
        factors=factors,
    )


def source_from_flags(
    flag_values: flags.FlagValues,
    directory: str | os.PathLike[str],
    on_the_fly: bool = False,
    check: Callable[[tuple[str, ...], int], None] = lambda factors, image_size: None,
    data_service: str | None = None,
) -> "GroupSource":
    """The data set in a folder, made first where it is not there; or a source that renders on the fly.

    Args:
        flag_values: the flags `define` and `define_tables` defined.
        directory: the data set's folder.
        on_the_fly: whether to keep nothing on disk.
        check: called with the factors and the size of the images before any is made; may raise.
        data_service: host:port of who renders on the fly instead of this process.

    Raises:
        UsageError: the data set in the folder is not the one that flags on the command line describe. `--seed` does not
            count: it may mean the training's alone.
        DcignError: see `make_dataset` and `RecordSource`.
    """
    from dcign_tf.datasets.samplers import Sampler
    from dcign_tf.datasets.source import RecordSource, RenderedSource

    folder = pathlib.Path(directory)
    if on_the_fly or not (folder / "manifest.json").exists():
        maker = maker_from_flags(flag_values)
        check(maker.factors, maker.image_size)
        if on_the_fly:
            if not isinstance(maker, Sampler):
                raise UsageError(
                    f"--render_on_the_fly: --source={flag_values['source'].value} has images, and renders none"
                )
            return RenderedSource(maker.config, data_service=data_service)
        # Who meant to name one that is there, and mistyped, should not wait for another one to be made.
        print(
            f"{folder}: no complete data set; making one of --source={flag_values['source'].value}",
            file=sys.stderr,
        )
        make_dataset(flag_values, maker, folder)
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


def make_dataset(
    flag_values: flags.FlagValues,
    maker: "GroupMaker",
    folder: str | os.PathLike[str],
    groups_per_file: int = 64,
) -> "Manifest":
    """Makes the data set that the flags describe, or what is missing of it, and says what it should be known for.

    Raises:
        DcignError: see `rendering.make_dataset`.
    """
    from dcign_tf.datasets import rendering

    for note in maker.notes:
        print(note, file=sys.stderr)
    return rendering.make_dataset(
        maker,
        folder,
        groups_from_flags(flag_values, maker.factors),
        processes=flag_values["processes"].value,
        groups_per_shard=groups_per_file,
    )
