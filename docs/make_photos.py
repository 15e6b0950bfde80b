"""Draws what a model makes of photographs of people: each, its crop, its reconstruction, turned, and re-lit.

python docs/make_photos.py [--cut_out] [--keep_detail] MODEL OUTPUT.png [PHOTO or PHOTO@left,top,right,bottom ...]

MODEL is anything that dcign-rerender takes, and the flags are what they are there. A face is looked for in a PHOTO that
comes without a square. Without any, two are taken that packages ship: of Eileen Collins (NASA, in the public domain;
scikit-image's `data.astronaut`) and of Grace Hopper (US Navy, in the public domain; matplotlib's sample data).

python docs/make_photos.py --measure SOURCE [PATH]

prints where in renders of a source's heads a face is found: `faces._SIDES` is one over the side.

python docs/make_photos.py --measure_detail MODEL SOURCE [PATH]

prints how near re-renderings of heads of a source, taken as photographs are, come to what the renderer draws, with and
without --keep_detail.
"""

import pathlib
import sys

import numpy as np

from dcign_tf import images
from dcign_tf.scenes import load_source, photography
from dcign_tf.scenes.render import Camera, Shading, render
from dcign_tf.serving import faces
from dcign_tf.serving.photographs import Photograph, figure


def photographs(arguments: list[str]) -> list[Photograph]:
    """The photographs that are named, or the two."""
    if not arguments:
        import matplotlib
        import skimage.data

        hopper = pathlib.Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
        astronaut = pathlib.Path(skimage.data.__file__).with_name("astronaut.png")
        arguments = [str(astronaut), str(hopper)]
    named = []
    for argument in arguments:
        path, _, square = argument.partition("@")
        named.append(Photograph(path, images.read_image(path), square or faces.FACE))
    return named


def measure(source: str, path: str | None, count: int = 60) -> str:
    """Where faces are found in renders of heads that look about toward the camera, framed as photographs on average."""
    model, rng = load_source(source, path), np.random.default_rng(0)
    middling = np.full(len(photography.NUMBERS), 0.5)
    middling[photography.NUMBERS.index("clothes")] = 1.0  # none
    take = photography.take(middling, 300, Camera(), Shading())
    azimuth, elevation, light = (rng.uniform(-d, d, count) for d in (15, 8, 40))
    heads = model.draw(rng, count)
    pictures = render(model, heads, azimuth, elevation, light, 300, takes=[take] * count)
    found = [faces.find_faces(picture[..., 0] / np.float32(255)) for picture in pictures]
    squares = np.array([some[0] for some in found if some]) / 300
    left, top, side = squares.T
    places = {"side": side, "middle, right": left + side / 2, "middle, down": top + side / 2}
    words = (f"{name} {v.mean():.3f} (deviates {v.std():.3f})" for name, v in places.items())
    return (
        f"{source}: found in {len(squares)} of {count}; in sides of the picture: {', '.join(words)}"
    )


def measure_detail(model: str, source: str, path: str | None, count: int = 60) -> str:
    """A table of errors of re-renderings, with and without the images' own detail; Markdown."""
    from skimage.metrics import structural_similarity

    from dcign_tf.serving.detail import Detailed
    from dcign_tf.serving.engine import open_engine

    engine = open_engine(model)
    detailed = Detailed(engine)
    heads, rng = load_source(source, path, photographic=True), np.random.default_rng(7)
    people, size = heads.draw(rng, count), engine.image_size
    takes = [
        photography.take(numbers, size, Camera(), Shading(), photography.PLAIN)
        for numbers in photography.draw(rng, count)
    ]
    shown = {f: rng.uniform(-d, d, count) for f, d in (("azimuth", 45), ("elevation", 15))}
    shown["light_azimuth"] = rng.uniform(-60, 60, count)

    def draw(values: dict[str, np.ndarray]) -> np.ndarray:
        azimuth, elevation, light = {**shown, **values}.values()
        drawn = render(heads, people, azimuth, elevation, light, size, takes=takes)
        return drawn / np.float32(255)

    images_ = draw({})
    lines = [
        "| change | MSE | MSE, detail kept | SSIM | SSIM, detail kept |",
        "|---|---|---|---|---|",
    ]
    changes = [("azimuth", 0), *(("azimuth", d) for d in (10, 20, 30, 45, 60))]
    changes += [("elevation", 10), ("elevation", 20), ("light_azimuth", 30), ("light_azimuth", 60)]
    for factor, degrees in changes:
        # Towards the middle of the range, so that all stay within.
        values = {factor: shown[factor] - np.copysign(degrees, shown[factor])} if degrees else {}
        truth = draw(values)
        errors, similarities = [], []
        for got in (engine.rerender(images_, values), detailed.rerender(images_, values)):
            errors.append(f"{((got - truth) ** 2).mean():.4f}")
            pairs = zip(got[..., 0], truth[..., 0], strict=True)
            similar = [structural_similarity(a, b, data_range=1.0) for a, b in pairs]
            similarities.append(f"{np.mean(similar):.3f}")
        name = f"{factor} by {degrees}°" if degrees else "none"
        lines.append(f"| {' | '.join([name, *errors, *similarities])} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Does what the arguments say."""
    if len(arguments) < 2:
        sys.exit(__doc__)
    if arguments[0] == "--measure":
        print(measure(arguments[1], arguments[2] if len(arguments) > 2 else None))
        return
    if arguments[0] == "--measure_detail":
        path = arguments[3] if len(arguments) > 3 else None
        print(measure_detail(arguments[1], arguments[2], path))
        return
    from dcign_tf.serving.detail import Detailed
    from dcign_tf.serving.engine import open_engine

    flags = {argument for argument in arguments if argument.startswith("--")}
    model, output, *named = (argument for argument in arguments if argument not in flags)
    if unknown := flags - {"--cut_out", "--keep_detail"}:
        sys.exit(f"{', '.join(unknown)}: not a flag of this script\n\n{__doc__}")
    engine = open_engine(model)
    used = Detailed(engine) if "--keep_detail" in flags else engine
    images.write_png(output, figure(used, photographs(named), "--cut_out" in flags))
    print(f"wrote {output}")


if __name__ == "__main__":
    main(sys.argv[1:])
