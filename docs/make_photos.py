"""Draws what a model makes of photographs of people: each, its crop, its reconstruction, turned, and re-lit.

python docs/make_photos.py [--cut_out] MODEL OUTPUT.png [PHOTO or PHOTO@left,top,right,bottom ...]

MODEL is anything that dcign-rerender takes, and --cut_out is what it is there. A face is looked for in a PHOTO that
comes without a square. Without any, two are taken that packages ship: of Eileen Collins (NASA, in the public domain;
scikit-image's `data.astronaut`) and of Grace Hopper (US Navy, in the public domain; matplotlib's sample data).

python docs/make_photos.py --measure SOURCE [PATH]

prints where in renders of a source's heads a face is found: `faces._SIDES` is one over the side.
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


def main(arguments: list[str]) -> None:
    """Does what the arguments say."""
    if len(arguments) < 2:
        sys.exit(__doc__)
    if arguments[0] == "--measure":
        print(measure(arguments[1], *arguments[2:3] or [None]))
        return
    from dcign_tf.serving.engine import open_engine

    cut_out = arguments[0] == "--cut_out"
    model, output, *named = arguments[cut_out:]
    images.write_png(output, figure(open_engine(model), photographs(named), cut_out))
    print(f"wrote {output}")


if __name__ == "__main__":
    main(sys.argv[1:])
