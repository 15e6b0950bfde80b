"""From a workdir of dcign-train to its evaluation: what to load and what to write."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dcign_tf import files
from dcign_tf.errors import DcignError, UsageError

if TYPE_CHECKING:
    from dcign_tf.datasets.samplers import AnyConfig
    from dcign_tf.datasets.source import GroupSource
    from dcign_tf.evaluation.evaluate import Evaluation, Settings
    from dcign_tf.evaluation.report import Picture

FOLDER = "evaluation"
IMAGES_IN_A_GROUP = 20
"""At least so many has a group that is rendered for an evaluation, though training may do with pairs."""


class Run(NamedTuple):
    """A finished training run.

    Attributes:
        folder: the workdir.
        model: its model.keras.
        config: what its config.json holds.
    """

    folder: pathlib.Path
    model: pathlib.Path
    config: dict[str, Any]


def find(workdir: str | os.PathLike[str], flag: str = "workdir") -> Run:
    """Finds a finished run, without loading it.

    Args:
        workdir: the folder.
        flag: that named it, for messages.

    Raises:
        UsageError: it is no workdir.
        DcignError: its training has not finished, or its configuration is damaged.
    """
    folder = pathlib.Path(workdir)
    if not folder.is_dir():
        raise UsageError(f"--{flag}: {folder}: no such folder; it takes a workdir of dcign-train")
    path = folder / "config.json"
    if not path.exists():
        raise UsageError(
            f"--{flag}: {folder} has no config.json; it takes a workdir of dcign-train"
        )
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DcignError(f"{path}: not the configuration of a run: {error}") from error
    if not isinstance(config, dict):
        raise DcignError(f"{path}: not the configuration of a run: it holds no object")
    model = folder / "model.keras"
    if not model.exists():
        raise DcignError(
            f"--{flag}: {folder} has no model.keras: its training has not finished; run the same dcign-train command "
            "again"
        )
    return Run(folder, model, config)


def open_data(
    run: Run,
    data: str | None = None,
    scene: Mapping[str, Any] | None = None,
    images: int = 1000,
    groups: int = 100,
) -> "GroupSource":
    """Opens what a run is to be evaluated on.

    Args:
        run: the run.
        data: folder of a data set; by default the run's own.
        scene: settings of `SceneConfig` that differ from those of the run's data; if there are any, scenes are
            rendered on the fly.
        images: images in which everything varies that a source that renders should have.
        groups: groups of each factor that it should have.

    Raises:
        UsageError: both `data` and `scene`, or a setting is impossible.
        DcignError: the data are gone, or are no data.
    """
    from dcign_tf.datasets.source import RecordSource, RenderedSource

    if data is not None and scene:
        raise UsageError(
            f"--{next(iter(scene))}: scenes cannot be changed in the data set of --data"
        )
    if data is not None:
        return RecordSource(data)
    where = run.config.get("data_path")
    if scene or not where:
        before = _scene(run, scene or {})
        for name in scene or {}:
            if not hasattr(before, name):
                raise UsageError(
                    f"--{name}: makes no sense with {before.source}, which {run.folder} was trained on"
                )
        larger = {"group_size": max(before.group_size, IMAGES_IN_A_GROUP)}
        changed = dataclasses.replace(before, **(larger | dict(scene or {})))
        return RenderedSource(changed, mixed_images=images, groups_per_factor=groups)
    if not pathlib.Path(where).is_dir():
        raise DcignError(
            f"{run.folder / 'config.json'}: the data were in {where}, which is gone; name their folder with --data"
        )
    return RecordSource(where)


def _scene(run: Run, changes: Mapping[str, Any]) -> "AnyConfig":
    """The scenes a run was trained on, some of which are to be changed."""
    from dcign_tf.datasets.samplers import config_from_dict
    from dcign_tf.datasets.source import RecordSource

    path = run.folder / "config.json"
    try:
        if "scene" in run.config:
            return config_from_dict(run.config["scene"])
        settings = dict(RecordSource(run.config["data_path"]).manifest.settings)
        if settings.pop("model_sha256", None) is None:
            raise UsageError(
                f"--{next(iter(changes), 'workdir')}: the images that {run.folder} was trained on were not rendered "
                "by this package, so it can make no others; leave the flag out"
            )
        return config_from_dict(settings)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DcignError(
            f"{path}: does not say which scenes the run was trained on ({error!r}); name a data set with --data"
        ) from error


def evaluate(
    run: Run,
    source: "GroupSource",
    split: str = "test",
    baseline: Run | None = None,
    settings: "Settings | None" = None,
) -> dict[str, Any]:
    """Evaluates a run and writes metrics.json, the figures and the report into its folder.

    Args:
        run: the run.
        source: what to evaluate it on.
        split: "test", "validation" or "train".
        baseline: the run of an entangled network to compare it with.
        settings: how much to measure.

    Returns:
        What metrics.json holds.

    Raises:
        DcignError: see `dcign_tf.evaluation.evaluate.evaluate`.
    """
    from dcign_tf.evaluation import evaluate as measuring
    from dcign_tf.evaluation.report import report
    from dcign_tf.model import load_model

    model = load_model(str(run.model))
    other = None
    if baseline is not None:
        other = load_model(str(baseline.model))
        if other.procedure != "sgvb":
            raise UsageError(
                f"--baseline_workdir: {baseline.folder} was trained with --procedure={other.procedure}; the baseline "
                "is the entangled network that --procedure=sgvb trains"
            )
    folder = run.folder / FOLDER
    # Before the long work, so that a folder that cannot be written is told at once.
    folder.mkdir(exist_ok=True)
    result = measuring.run(model, source, split, other, settings or measuring.Settings())
    drawn = pictures(result)
    for picture in drawn:
        with files.atomic_write(folder / picture.name) as file:
            file.write(picture.png)
    with files.atomic_write(folder / "report.html", "w") as file:
        file.write(report(result.metrics, drawn, _shown(run.config)))
    with files.atomic_write(folder / "metrics.json", "w") as file:
        json.dump(result.metrics, file, indent=2, allow_nan=False)
        file.write("\n")
    return result.metrics


def pictures(result: "Evaluation") -> "list[Picture]":
    """All figures of an evaluation."""
    from dcign_tf.evaluation import figures
    from dcign_tf.evaluation.report import Picture

    network = result.network
    drawn = [
        Picture(
            f"sweep_{factor}.png",
            f"{factor.replace('_', ' ').capitalize()}, swept",
            "Each row is one image of an identity that training never saw (in the corner its true value, if known), "
            "what the network makes of it, and the same with one latent set to the value above and all others held. "
            "Good is a picture that changes in this way only, and stays the same in all else. The paper's Fig. 4 and "
            "5a.",
            figures.sweep(network, factor),
        )
        for factor in network.network.places
    ]
    if network.pairs:
        drawn.append(
            Picture(
                "rerendering.png",
                "Re-rendering, against the truth",
                "Above the one image the network was given; in the middle what it renders with one factor set to "
                "another value; below the true picture of that.",
                figures.rerenderings(network),
            )
        )
    for factor in network.pairs:
        if factor in network.periods:
            drawn.append(
                Picture(
                    f"best_and_worst_{factor}.png",
                    f"{factor.replace('_', ' ').capitalize()}, where it is turned best and worst",
                    "As above, for those groups whose re-rendering has the smallest error, and below those where it "
                    "has the largest. The paper's Fig. 7.",
                    figures.best_and_worst(network, factor),
                )
            )
    scattered = figures.inference(network)
    if scattered is not None:
        drawn.append(
            Picture(
                "inference.png",
                "What it reads off an image",
                "Each dot is an image in which everything varies. Above, the value that the network tells against the "
                "true one: on the line is right. Below, the raw latent: good is a curve that rises or falls "
                "throughout. The paper's Fig. 6.",
                scattered,
            )
        )
    drawn.append(
        Picture(
            "reconstructions.png",
            "Reconstruction",
            "Above images of identities that training never saw, below what the network makes of each.",
            figures.reconstructions(network),
        )
    )
    if result.baseline is not None:
        if network.pairs:
            drawn.append(
                Picture(
                    "entangled.png",
                    "Entangled and disentangled",
                    "The same images and values for both networks: good is a re-rendering like the truth. The "
                    "entangled one is the same network trained without the paper's procedure; set is the latent that "
                    "varies most where this factor does. The paper's Fig. 5b.",
                    figures.entangled(network, result.baseline),
                )
            )
        for factor in result.baseline.network.places:
            drawn.append(
                Picture(
                    f"baseline_sweep_{factor}.png",
                    f"{factor.replace('_', ' ').capitalize()}, swept in the entangled baseline",
                    "The same network trained without the paper's procedure; swept is the latent that varies most "
                    "where this factor does.",
                    figures.sweep(result.baseline, factor),
                )
            )
    return drawn


def _shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what concerns nobody else: where things lie on this machine."""
    shown = {key: value for key, value in config.items() if key != "data_path"}
    if isinstance(command := shown.get("command"), str):
        from dcign_tf import workdirs

        shown["command"] = workdirs.without_places(command)
    if isinstance(shown.get("scene"), Mapping):
        shown["scene"] = {k: v for k, v in shown["scene"].items() if k != "source_path"}
    return shown
