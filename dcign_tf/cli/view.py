"""Opens a page in the browser on which a picture is turned, raised and re-lit with sliders.

Examples:
  dcign-view --open
  dcign-view --model=runs/faces
  dcign-view --model=runs/faces --model=saved_models/faces
  dcign-view --host=0.0.0.0 --port=8080

Drop a photo, pick a sample or draw a face; there is a slider for each factor of the model. Models given beside the
first can be compared with it. Everything stays on this machine: pictures are held in memory while they are worked on,
nothing is stored, and the page loads nothing from elsewhere. With --host=0.0.0.0 whoever is in this network can use
it, too, such as from a phone. Ctrl-C ends it.
"""

import pathlib
import webbrowser

from absl import flags

from dcign_tf import errors
from dcign_tf.cli import common

_MOST = 8

FLAGS = common.command_flags()
_MODELS = flags.DEFINE_multi_string(
    "model",
    [],
    "a workdir of dcign-train, a .keras file, or a folder that dcign-export made; give it again for models to "
    "compare with; by default the model of faces that ships with dcign_tf",
    flag_values=FLAGS,
)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "the name or address to listen at; by default only this machine can reach it, 0.0.0.0 lets all in",
    flag_values=FLAGS,
)
_PORT = flags.DEFINE_integer(
    "port",
    8150,
    "the port to listen at; 0 for any that is free",
    lower_bound=0,
    upper_bound=65535,
    flag_values=FLAGS,
)
_OPEN = flags.DEFINE_boolean("open", False, "open the page in a browser", flag_values=FLAGS)


def main(argv: list[str]) -> None:
    """Opens the models, then serves until it is interrupted."""
    del argv
    if "" in _MODELS.value:
        raise errors.UsageError("--model: got an empty name, must be a workdir, file or folder")
    if len(_MODELS.value) > _MOST:
        raise errors.UsageError(f"--model: got {len(_MODELS.value)}, at most {_MOST} are shown")
    if not _HOST.value:
        raise errors.UsageError("--host: got an empty name, must be a name or address")
    from dcign_tf.serving import shipped

    paths = [pathlib.Path(path) for path in _MODELS.value] or [shipped.find()]

    from dcign_tf.serving import engine, samples
    from dcign_tf.serving.viewer import server
    from dcign_tf.serving.viewer.studio import Studio

    engines = [engine.open_engine(path) for path in paths]
    pictures = samples.pictures_for(paths[0], engines[0])
    studio = Studio(dict(zip(_names(paths), engines, strict=True)), pictures)
    studio.warm_up()
    listening = server.listen(studio, _HOST.value, _PORT.value)
    url = server.url_of(listening)
    print(f"{url}  (Ctrl-C ends it)", flush=True)
    if _OPEN.value:
        webbrowser.open(url)
    listening.serve_forever()


def _names(paths: list[pathlib.Path]) -> list[str]:
    """What to call models: their paths, as far as those differ from each other."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise errors.UsageError(f"--model: {paths[0]} is given twice; once is right")


def main_entry() -> None:
    """Runs the command."""
    common.run(main, FLAGS)


if __name__ == "__main__":
    main_entry()
