"""The layout of the graphics code: which latents hold which factor (Fig. 2 of the paper)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

INTRINSIC = "intrinsic"


class CodeLayout:
    """Names the factors of a scene and gives each its own latents, in order.

    The paper's layout, `CodeLayout.paper()`, has azimuth in latent 0, elevation in 1, the light's azimuth in 2
    and all intrinsic properties in 3..199. The last factor is the intrinsic one: identity, shape, texture,
    whatever the others do not say.

    Example:
        >>> layout = CodeLayout({"azimuth": 1, "intrinsic": 9})
        >>> layout.indices("azimuth").tolist(), layout.latents
        ([0], 10)

    A factor that turns all the way around has no place on a line, which has two ends: it may be circular. Then it has
    two latents, of which only the direction counts: the decoder divides them by their length (`layers.OnCircles`), and
    the angle of the pair is the number that tells the factor.

    Args:
        factors: names of factors and how many latents each has, in the order of the code; a mapping, or
            (name, latents) pairs, as `get_config` gives them.
        circular: names of extrinsic factors that are circular.

    Raises:
        ValueError: a name is empty, no identifier, or given twice; a factor has no latents; there is but one factor; a
            circular factor is none of the extrinsic ones, or has other than two latents.
    """

    def __init__(
        self,
        factors: Mapping[str, int] | Sequence[tuple[str, int]],
        circular: Sequence[str] = (),
    ) -> None:
        pairs = list(factors.items()) if isinstance(factors, Mapping) else list(factors)
        self._sizes: dict[str, int] = {}
        for name, size in pairs:
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"factor {name!r}: a name must be letters, digits and underscores")
            if name in self._sizes:
                raise ValueError(f"factor {name!r}: given twice")
            if int(size) != size or size < 1:
                raise ValueError(f"factor {name!r}: got {size} latents, must be 1 or more")
            self._sizes[name] = int(size)
        if len(self._sizes) < 2:
            raise ValueError(
                f"factors: got {list(self._sizes)}, must name at least one extrinsic factor and the intrinsic one"
            )
        for name in circular:
            if name not in self.extrinsic:
                raise ValueError(
                    f"circular: got {name!r}, must be one of {', '.join(self.extrinsic)}"
                )
            if self._sizes[name] != 2:
                raise ValueError(
                    f"factor {name!r}: is circular and got {self._sizes[name]} latents, must have 2"
                )
        self._circular = tuple(name for name in self.extrinsic if name in set(circular))

    @classmethod
    def paper(cls, latents: int = 200) -> "CodeLayout":
        """One latent for each of azimuth, elevation and light_azimuth, the rest intrinsic (section 3.1)."""
        if latents < 4:
            raise ValueError(f"latents: got {latents}, must be 4 or more for the paper's layout")
        return cls({"azimuth": 1, "elevation": 1, "light_azimuth": 1, INTRINSIC: latents - 3})

    @property
    def factors(self) -> tuple[str, ...]:
        """All factors, in order; a mini-batch's `active` indexes them."""
        return tuple(self._sizes)

    @property
    def extrinsic(self) -> tuple[str, ...]:
        """All factors but the last."""
        return self.factors[:-1]

    @property
    def circular(self) -> tuple[str, ...]:
        """Those extrinsic factors whose two latents are a direction."""
        return self._circular

    @property
    def latents(self) -> int:
        """The length of the code, L."""
        return sum(self._sizes.values())

    def indices(self, factor: str) -> np.ndarray:
        """The latents that hold `factor`; int [n]."""
        if factor not in self._sizes:
            raise ValueError(f"factor {factor!r}: not one of {', '.join(self.factors)}")
        start = 0
        for name, size in self._sizes.items():
            if name == factor:
                break
            start += size
        return np.arange(start, start + self._sizes[factor])

    @property
    def masks(self) -> np.ndarray:
        """Row f is true at the latents of factor f; bool [F, L]."""
        masks = np.zeros((len(self._sizes), self.latents), bool)
        for row, factor in enumerate(self.factors):
            masks[row, self.indices(factor)] = True
        return masks

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs to make an equal layout, fit for JSON."""
        circular = {"circular": list(self._circular)} if self._circular else {}
        return {"factors": [[name, size] for name, size in self._sizes.items()], **circular}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "CodeLayout":
        """Makes a layout from what `get_config` gave."""
        return cls([(name, size) for name, size in config["factors"]], config.get("circular") or ())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CodeLayout) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return tuple(self._sizes.items()), self._circular

    def __repr__(self) -> str:
        circular = f", circular={self._circular}" if self._circular else ""
        return f"CodeLayout({self._sizes}{circular})"


def told(codes: np.ndarray, latents: Sequence[int] | np.ndarray) -> np.ndarray:
    """The one number by which latents tell a factor.

    Args:
        codes: [..., L].
        latents: one of them, or two, which are a direction.

    Returns:
        [...]: the latent, or the direction's angle in radians, from -pi to pi.
    """
    if len(latents) == 1:
        return codes[..., latents[0]]
    return np.arctan2(codes[..., latents[1]], codes[..., latents[0]])


def on_circles(codes: np.ndarray, pairs: Sequence[Sequence[int]]) -> np.ndarray:
    """A copy of codes [..., L] in which pairs of latents that are a direction have the length 1."""
    codes = np.array(codes)
    for pair in pairs:
        length = np.linalg.norm(codes[..., list(pair)], axis=-1, keepdims=True)
        codes[..., list(pair)] /= np.maximum(length, np.finfo(codes.dtype).tiny)
    return codes
