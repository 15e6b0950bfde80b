"""Renders a data set of mini-batches, in each of which exactly one factor varies.

    dcign-data --output=data/faces --image_size=70

Uses all cores. Interrupted, the same command goes on where it was; the files are the same bytes as if it had not been.

    dcign-data --verify=data/faces

compares the files with the checksums in the data set's manifest.
"""

from absl import flags

from dcign_tf.cli import common, scene_flags

FLAGS = common.command_flags()
scene_flags.define(FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "folder of the data set to make", flag_values=FLAGS)
_VERIFY = flags.DEFINE_string(
    "verify", None, "folder of a data set to check instead", flag_values=FLAGS
)
_GROUPS_PER_FILE = flags.DEFINE_integer(
    "groups_per_file", 64, "mini-batches in each file", lower_bound=1, flag_values=FLAGS
)


def main(argv: list[str]) -> None:
    """Makes or checks a data set as the flags say."""
    del argv
    from dcign_tf.datasets import rendering
    from dcign_tf.errors import UsageError

    if _VERIFY.value and _OUTPUT.value:
        raise UsageError("--verify: got --output, too; one of them at a time")
    if _VERIFY.value:
        manifest = rendering.verify_dataset(_VERIFY.value)
        print(f"{_VERIFY.value}: all {len(manifest.files)} files are as they were written")
        return
    if not _OUTPUT.value:
        raise UsageError("--output: missing; name the folder of the data set to make")
    manifest = rendering.render_dataset(
        scene_flags.scene_config_from_flags(FLAGS),
        _OUTPUT.value,
        scene_flags.groups_from_flags(FLAGS),
        processes=FLAGS["processes"].value,
        groups_per_shard=_GROUPS_PER_FILE.value,
    )
    groups = sum(sum(counts.values()) for counts in manifest.groups.values())
    size = sum(file.size for file in manifest.files.values())
    print(
        f"{_OUTPUT.value}: {groups} mini-batches of {manifest.group_size} images, "
        f"{manifest.image_size} x {manifest.image_size} pixels, in {len(manifest.files)} files of "
        f"{size / 1e6:.1f} MB together"
    )


def main_entry() -> None:
    """Runs the command."""
    common.run(main, FLAGS)


if __name__ == "__main__":
    main_entry()
