"""All that draws groups and renders them, by their configurations."""

from collections.abc import Mapping
from typing import Any

from dcign_tf.datasets import chair_scenes
from dcign_tf.datasets.chair_scenes import ChairConfig, ChairSampler
from dcign_tf.datasets.scenes import SceneConfig, SceneSampler

AnyConfig = SceneConfig | ChairConfig
Sampler = SceneSampler | ChairSampler


def make_sampler(config: AnyConfig) -> Sampler:
    """What draws a configuration's groups.

    Raises:
        DcignError: what it needs cannot be loaded.
    """
    return ChairSampler(config) if isinstance(config, ChairConfig) else SceneSampler(config)


def config_from_dict(values: Mapping[str, Any]) -> AnyConfig:
    """The reverse of any configuration's `to_dict`; errors as those of `SceneConfig.from_dict`."""
    if values.get("source") == chair_scenes.SOURCE:
        return ChairConfig.from_dict(values)
    return SceneConfig.from_dict(values)
