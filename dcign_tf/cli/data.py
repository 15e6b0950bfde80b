"""Makes a data set of mini-batches, in each of which exactly one factor varies: renders it, or packs images.

    dcign-data --output=data/faces --image_size=70
    dcign-data --output=data/mine --image_size=70 --source=table --source_path=renders/factors.csv

Uses all cores. Interrupted, the same command goes on where it was; the files are the same bytes as if it had not been.

    dcign-data --inspect=data/faces

prints what is in a data set and draws a picture to check at a glance, data/faces.png: a mini-batch of each factor.
With the flags of a source it shows what --output would make of it, before anything is made.

    dcign-data --verify=data/faces

compares the files with the checksums in the data set's manifest.
"""

from absl import flags

from dcign_tf.cli import common, scene_flags

FLAGS = common.command_flags()
scene_flags.define(FLAGS)
scene_flags.define_tables(FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "folder of the data set to make", flag_values=FLAGS)
_VERIFY = flags.DEFINE_string(
    "verify", None, "folder of a data set to check instead", flag_values=FLAGS
)
_INSPECT = flags.DEFINE_string(
    "inspect",
    None,
    "folder of a data set to show instead; with --source, of one that could be made. The picture lies beside it",
    flag_values=FLAGS,
)
_GROUPS_PER_FILE = flags.DEFINE_integer(
    "groups_per_file", 64, "mini-batches in each file", lower_bound=1, flag_values=FLAGS
)


def main(argv: list[str]) -> None:
    """Makes, checks or shows a data set as the flags say."""
    del argv
    from dcign_tf.datasets import rendering
    from dcign_tf.errors import UsageError

    jobs = {"verify": _VERIFY.value, "output": _OUTPUT.value, "inspect": _INSPECT.value}
    given = [name for name, value in jobs.items() if value]
    if len(given) > 1:
        raise UsageError(f"--{given[0]}: got --{given[1]}, too; one of them at a time")
    if _VERIFY.value:
        manifest = rendering.verify_dataset(_VERIFY.value)
        print(f"{_VERIFY.value}: all {len(manifest.files)} files are as they were written")
        return
    if _INSPECT.value:
        _inspect(_INSPECT.value)
        return
    if not _OUTPUT.value:
        raise UsageError("--output: missing; name the folder of the data set to make")
    maker = scene_flags.maker_from_flags(FLAGS)
    manifest = scene_flags.make_dataset(FLAGS, maker, _OUTPUT.value, _GROUPS_PER_FILE.value)
    groups = sum(sum(counts.values()) for counts in manifest.groups.values())
    size = sum(file.size for file in manifest.files.values())
    print(
        f"{_OUTPUT.value}: {groups} mini-batches of {manifest.group_size} images, "
        f"{manifest.image_size} x {manifest.image_size} pixels, in {len(manifest.files)} files of "
        f"{size / 1e6:.1f} MB together"
    )


def _inspect(folder: str) -> None:
    """Prints what a data set holds, or would hold, and draws it."""
    from dcign_tf import images
    from dcign_tf.datasets import inspection, rendering

    if FLAGS["source"].present:
        maker = scene_flags.maker_from_flags(FLAGS)
        manifest = rendering.plan(
            maker,
            scene_flags.groups_from_flags(FLAGS, maker.factors),
            _GROUPS_PER_FILE.value,
        )
        lines = ["files: not made yet", *maker.notes]
        group: inspection.GetGroup = maker.group
    else:
        manifest, state, group = inspection.open_dataset(folder)
        lines = [f"files: {state}"]
    print("\n".join([*inspection.describe(manifest), *lines]))
    picture = inspection.picture_path(folder)
    images.write_png(picture, inspection.contact_sheet(manifest, group))
    print(f"wrote {picture}")


def main_entry() -> None:
    """Runs the command."""
    common.run(main, FLAGS)


if __name__ == "__main__":
    main_entry()
