"""Makes a data set of mini-batches, in each of which exactly one factor varies: renders it, or packs images.

    dcign-data --output=data/faces --image_size=70
    dcign-data --output=data/mine --image_size=70 --source=table --source_path=renders/factors.csv

Uses all cores. Interrupted, the same command goes on where it was; the files are the same bytes as if it had not been.

    dcign-data --inspect=data/faces

prints what is in a data set and draws a picture to check at a glance, data/faces.png: a mini-batch of each factor.
With the flags of a source it shows what --output would make of it, before anything is made.

    dcign-data --verify=data/faces

compares the files with the checksums in the data set's manifest.

    dcign-data --serve=dispatcher --port=5050
    dcign-data --serve=worker --dispatcher=grpc://127.0.0.1:5050 --image_size=70

render for dcign-train --render_on_the_fly --data_service=grpc://127.0.0.1:5050, in other processes and on other
machines, until they are stopped.
"""

import signal
import sys
from typing import TYPE_CHECKING

from absl import flags

from dcign_tf.cli import common, scene_flags

if TYPE_CHECKING:
    from dcign_tf.datasets.service import RenderingWorker

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
_SERVE = flags.DEFINE_enum(
    "serve",
    None,
    ["dispatcher", "worker"],
    "render for trainings instead: one dispatcher, and workers (--processes: mini-batches side by side)",
    flag_values=FLAGS,
)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "with --serve: the name or address to listen at; for other machines to reach it the name they know, or 0.0.0.0. "
    "There are no passwords: only in networks that are your own",
    flag_values=FLAGS,
)
_PORT = flags.DEFINE_integer(
    "port",
    0,
    "with --serve: the port; 0 for any that is free",
    lower_bound=0,
    upper_bound=65535,
    flag_values=FLAGS,
)
_DISPATCHER = flags.DEFINE_string(
    "dispatcher", None, "with --serve=worker: the dispatcher's grpc://host:port", flag_values=FLAGS
)
_GROUPS_PER_FILE = flags.DEFINE_integer(
    "groups_per_file", 64, "mini-batches in each file", lower_bound=1, flag_values=FLAGS
)


def main(argv: list[str]) -> None:
    """Makes, checks or shows a data set as the flags say."""
    del argv
    from dcign_tf.datasets import rendering
    from dcign_tf.errors import UsageError

    jobs = {
        "verify": _VERIFY.value,
        "output": _OUTPUT.value,
        "inspect": _INSPECT.value,
        "serve": _SERVE.value,
    }
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
    if _SERVE.value:
        _serve()
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


def _serve() -> None:
    """Serves until it is stopped: by SIGTERM, which is no error, or Ctrl-C."""
    from dcign_tf.datasets import service

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server: service.Dispatcher | service.RenderingWorker
    try:
        if _SERVE.value == "dispatcher":
            server = service.Dispatcher(_HOST.value, _PORT.value)
        else:
            server = _rendering_worker()
        print(f"{_SERVE.value}: listening at grpc://{server.address}", flush=True)
        try:
            server.run(lambda line: print(f"{_SERVE.value}: {line}", flush=True))
        finally:
            server.close()
    finally:
        signal.signal(signal.SIGTERM, before)


def _rendering_worker() -> "RenderingWorker":
    from dcign_tf.datasets import rendering, service
    from dcign_tf.datasets.samplers import Sampler
    from dcign_tf.errors import UsageError

    if not _DISPATCHER.value:
        raise UsageError("--dispatcher: missing; name the dispatcher, as in grpc://host:5050")
    dispatcher = service.parse_target("dispatcher", _DISPATCHER.value)
    maker = scene_flags.maker_from_flags(FLAGS)
    if not isinstance(maker, Sampler):
        raise UsageError(f"--serve: --source={FLAGS['source'].value} has images, and renders none")
    slots = FLAGS["processes"].value or rendering.available_cores()
    return service.RenderingWorker(maker, dispatcher, _HOST.value, _PORT.value, slots)


def main_entry() -> None:
    """Runs the command."""
    common.run(main, FLAGS)


if __name__ == "__main__":
    main_entry()
