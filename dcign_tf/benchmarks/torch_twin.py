"""The same network and training procedure in PyTorch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dcign_tf.benchmarks.counting import decoder_side
from dcign_tf.code import CodeLayout


class _Clamp(torch.autograd.Function):
    """The paper's clamp and invariance signal (sections 3.1 and 3.2); see `dcign_tf.clamp`."""

    @staticmethod
    def forward(ctx: Any, latents: Any, active: Any, strength: float) -> Any:
        mean = latents.mean(1, keepdim=True)
        ctx.save_for_backward(latents - mean, active)
        ctx.strength = strength
        return torch.where(active, latents, mean)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        distance, active = ctx.saved_tensors
        return torch.where(active, upstream[0], distance * ctx.strength), None, None


class Twin(nn.Module):
    """Fig. 1 with the objective and the clamp of `DCIGN`.

    Args:
        image_size: side of the images.
        encoder_filters: channels of the encoder's convolutions.
        decoder_filters: channels of the decoder's.
        latents: length of the code, in the paper's layout.
        invariance_strength: see `DCIGN`.
    """

    def __init__(
        self,
        image_size: int,
        encoder_filters: Sequence[int],
        decoder_filters: Sequence[int],
        latents: int,
        invariance_strength: float = 0.01,
    ) -> None:
        super().__init__()
        self.base = decoder_side(image_size)
        self.side = image_size
        for _ in encoder_filters:
            self.side = (self.side - 4) // 2
        pairs = zip((1, *encoder_filters), encoder_filters, strict=False)
        self.encoder = nn.ModuleList(nn.Conv2d(*pair, 5) for pair in pairs)
        features = self.side**2 * encoder_filters[-1]
        self.mean = nn.Linear(features, latents)
        self.log_variance = nn.Linear(features, latents)
        self.features = nn.Linear(latents, self.base**2 * decoder_filters[0])
        sizes = (decoder_filters[0], *decoder_filters)
        pairs = zip(sizes, (*decoder_filters, 1), strict=True)
        self.decoder = nn.ModuleList(nn.Conv2d(*pair, 7) for pair in pairs)
        self.register_buffer("masks", torch.from_numpy(CodeLayout.paper(latents).masks))
        self.invariance_strength = invariance_strength

    def objective(self, images: Any, active: Any, noise: Any) -> Any:
        """The objective summed over all images, in nats, whose gradient is the paper's.

        Args:
            images: float [G * B, 1, S, S] in [0, 1].
            active: index of the factor that varies in each group; int [G].
            noise: standard normal [G, B, L].
        """
        x = images
        for convolution in self.encoder:
            x = functional.relu(functional.max_pool2d(convolution(x), 2))
        x = x.flatten(1)
        mask = self.masks[active][:, None]
        mean = _Clamp.apply(self.mean(x).view(noise.shape), mask, self.invariance_strength)
        log_variance = _Clamp.apply(
            self.log_variance(x).view(noise.shape), mask, self.invariance_strength
        )
        codes = (mean + torch.exp(0.5 * log_variance) * noise).flatten(0, 1)
        x = functional.relu(self.features(codes)).view(len(codes), -1, self.base, self.base)
        *inner, last = self.decoder
        for convolution in inner:
            x = functional.relu(convolution(functional.interpolate(x, scale_factor=2)))
        logits = last(functional.interpolate(x, scale_factor=2))
        entropy = functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
        return entropy + divergence.sum()

    def set_weights(self, encoder: Sequence[np.ndarray], decoder: Sequence[np.ndarray]) -> None:
        """Takes over weights, each a list as Keras's `get_weights` gives it for that half of a `DCIGN`."""
        layers = [*self.encoder, self.mean, self.log_variance, self.features, *self.decoder]
        arrays = [*encoder, *decoder]
        with torch.no_grad():
            for layer, kernel, bias in zip(layers, arrays[::2], arrays[1::2], strict=True):
                layer.weight.copy_(torch.from_numpy(self._from_keras(layer, kernel).copy()))
                if layer is self.features:
                    bias = self._channels_first(bias, self.base)
                layer.bias.copy_(torch.from_numpy(bias.copy()))

    def _from_keras(self, layer: nn.Module, kernel: np.ndarray) -> np.ndarray:
        if kernel.ndim == 4:
            return kernel.transpose(3, 2, 0, 1)
        # Feature maps are flattened with their channels last there, first here.
        if layer is self.features:
            return self._channels_first(kernel, self.base).T
        return self._channels_first(kernel.T, self.side)

    @staticmethod
    def _channels_first(flat: np.ndarray, side: int) -> np.ndarray:
        maps = flat.reshape(*flat.shape[:-1], side, side, -1)
        return np.moveaxis(maps, -1, -3).reshape(flat.shape)


def steps(
    network: dict[str, Any], images: np.ndarray, channels_last: bool, compiled: bool
) -> Callable[[], None]:
    """A candidate: a training step.

    Args:
        network: which; `Settings.network`.
        images: uint8 [G, B, S, S, 1], the step's batch.
        channels_last: whether tensors lie in memory with their channels last.
        compiled: whether `torch.compile` has a go at it.
    """
    torch.manual_seed(0)
    twin = Twin(**network)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    twin = twin.to(memory_format=layout)
    objective = torch.compile(twin.objective) if compiled else twin.objective
    optimizer = torch.optim.Adam(
        twin.parameters(), lr=5e-4, betas=(0.9, 0.99), eps=1e-4, fused=True
    )
    groups, batch, side = images.shape[:3]
    pixels = torch.from_numpy(images.reshape(groups * batch, 1, side, side).copy())
    active = torch.zeros(groups, dtype=torch.int64)

    def step() -> None:
        x = (pixels.float() / 255).contiguous(memory_format=layout)
        optimizer.zero_grad(set_to_none=True)
        total = objective(x, active, torch.randn(groups, batch, network["latents"]))
        total.backward()
        optimizer.step()
        if not np.isfinite(total.item()):
            raise FloatingPointError(f"the objective became {total.item()}")

    return step
