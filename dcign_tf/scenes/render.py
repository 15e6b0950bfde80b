"""The renderer: triangle meshes under a perspective camera and one light, to grey images.

Axes: x to the viewer's right, y up, z toward the camera, which looks along -z. A head faces +z at azimuth 0.
It is turned about its own vertical axis, then raised about the viewer's horizontal one, R = Rx(-elevation)
Ry(azimuth), as on a turntable seen by a camera at a height (in the paper: "the elevation of the face with respect to
the camera"): a positive azimuth turns it to the viewer's right (its own left), a positive elevation shows it from
below, so that a head that faces the camera looks up. The light stays with the camera: its direction is
(sin l cos b, sin b, cos l cos b) for the light azimuth l and the light's elevation b.

Shading is computed at the vertices from smooth normals (ambient + diffuse + Blinn-Phong specular) and
interpolated over triangles, which on meshes whose triangles are about a pixel wide is the same as doing so for
each pixel. Same parameters give the same bytes, on any number of threads or processes.
"""

import dataclasses
import math

import numba
import numpy as np

from dcign_tf.scenes.morphable import MorphableModel


@dataclasses.dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at the model's center.

    Attributes:
        field_of_view: vertical angle of view in degrees; small values are long lenses.
        zoom: magnification; 1 shows `MorphableModel.radius` above and below the center.
    """

    field_of_view: float = 20.0
    zoom: float = 1.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.field_of_view <= 90.0:
            raise ValueError(f"field_of_view: got {self.field_of_view}, must be 1 to 90 degrees")
        if not 0.1 <= self.zoom <= 100.0:
            raise ValueError(f"zoom: got {self.zoom}, must be 0.1 to 100")


@dataclasses.dataclass(frozen=True)
class Shading:
    """How a surface of albedo 1 answers the light; intensities are fractions of white.

    Attributes:
        ambient: light from everywhere.
        diffuse: Lambertian reflection of the one light.
        specular: strength of the highlight (Blinn-Phong), independent of albedo.
        shininess: exponent of the highlight; larger is smaller and sharper.
        light_elevation: height of the light above the camera in degrees.
        background: grey value where there is no surface.
    """

    ambient: float = 0.2
    diffuse: float = 0.8
    specular: float = 0.08
    shininess: float = 12.0
    light_elevation: float = 15.0
    background: float = 0.0

    def __post_init__(self) -> None:
        for field in ("ambient", "diffuse", "specular", "background"):
            value = getattr(self, field)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{field}: got {value}, must be 0 to 1")
        if not 1.0 <= self.shininess <= 1000.0:
            raise ValueError(f"shininess: got {self.shininess}, must be 1 to 1000")
        if not -90.0 <= self.light_elevation <= 90.0:
            raise ValueError(f"light_elevation: got {self.light_elevation}, must be -90 to 90")


def rotation(azimuth: float, elevation: float) -> np.ndarray:
    """The head's rotation Rx(-elevation) Ry(azimuth) for angles in degrees; float64 [3, 3]."""
    a, e = math.radians(azimuth), math.radians(elevation)
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    raise_ = np.array([[1, 0, 0], [0, math.cos(e), math.sin(e)], [0, -math.sin(e), math.cos(e)]])
    return raise_ @ turn


def light_direction(light_azimuth: float, light_elevation: float) -> np.ndarray:
    """Unit vector from the scene to the light, in the camera's frame, for angles in degrees; [3]."""
    a, b = math.radians(light_azimuth), math.radians(light_elevation)
    return np.array([math.sin(a) * math.cos(b), math.sin(b), math.cos(a) * math.cos(b)])


def render(
    model: MorphableModel,
    coefficients: np.ndarray,
    azimuth: np.ndarray,
    elevation: np.ndarray,
    light_azimuth: np.ndarray,
    image_size: int,
    camera: Camera = Camera(),
    shading: Shading = Shading(),
    supersample: int = 2,
) -> np.ndarray:
    """Renders one image for each row of `coefficients`.

    Consecutive rows with the same coefficients share the work of building their mesh.

    Args:
        model: the shapes and reflectances to draw from.
        coefficients: float32 [N, K + M], in standard deviations of the model's modes.
        azimuth: [N], degrees.
        elevation: [N], degrees.
        light_azimuth: [N], degrees.
        image_size: height and width of the images in pixels.
        camera: position and lens.
        shading: the light's and the surface's constants.
        supersample: samples per pixel along each axis, averaged (anti-aliasing).

    Returns:
        uint8 [N, image_size, image_size, 1].

    Raises:
        ValueError: an argument has the wrong shape, is out of range or not finite.
    """
    count = len(coefficients)
    angles = np.empty((count, 3))
    for column, (name, values) in enumerate(
        (("azimuth", azimuth), ("elevation", elevation), ("light_azimuth", light_azimuth))
    ):
        values = np.asarray(values, np.float64)
        if values.shape != (count,):
            raise ValueError(f"{name}: got shape {values.shape}, must be ({count},)")
        angles[:, column] = values
    if not np.isfinite(angles).all() or not np.isfinite(coefficients).all():
        raise ValueError("angles and coefficients must be finite")
    if not 1 <= image_size <= 4096:
        raise ValueError(f"image_size: got {image_size}, must be 1 to 4096")
    if not 1 <= supersample <= 16:
        raise ValueError(f"supersample: got {supersample}, must be 1 to 16")

    images = np.empty((count, image_size, image_size, 1), np.uint8)
    if count == 0:
        return images
    identities = np.asarray(coefficients, np.float32)
    is_new = np.ones(count, bool)
    is_new[1:] = (identities[1:] != identities[:-1]).any(axis=1)
    which = np.cumsum(is_new) - 1
    unique = identities[is_new]
    # A bounded number of meshes at a time: each is some hundred kilobytes.
    for first in range(0, len(unique), 20):
        vertices = model.vertices(unique[first : first + 20])
        albedo = model.albedo(unique[first : first + 20])
        previous, normals = -1, np.empty((0, 3), np.float32)
        for row in np.flatnonzero((which >= first) & (which < first + 20)):
            mesh = which[row] - first
            if mesh != previous:
                normals = smooth_normals(vertices[mesh], model.triangles)
                previous = mesh
            _draw(
                vertices[mesh],
                normals,
                albedo[mesh],
                model.triangles,
                np.ascontiguousarray(rotation(angles[row, 0], angles[row, 1])),
                model.center.astype(np.float64),
                float(model.radius),
                light_direction(angles[row, 2], shading.light_elevation),
                math.tan(math.radians(camera.field_of_view) / 2),
                camera.zoom,
                np.array(
                    [shading.ambient, shading.diffuse, shading.specular, shading.shininess]
                ),
                shading.background,
                supersample,
                images[row, :, :, 0],
            )
    return images


@numba.njit(cache=True, nogil=True)
def smooth_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals of the vertices, the mean of their triangles' weighted by area; float32 [V, 3].

    Args:
        vertices: float32 [V, 3].
        triangles: int32 [T, 3], counter-clockwise seen from outside.
    """
    normals = np.zeros_like(vertices)
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux = vertices[b, 0] - vertices[a, 0]
        uy = vertices[b, 1] - vertices[a, 1]
        uz = vertices[b, 2] - vertices[a, 2]
        vx = vertices[c, 0] - vertices[a, 0]
        vy = vertices[c, 1] - vertices[a, 1]
        vz = vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(len(normals)):
        x, y, z = normals[i, 0], normals[i, 1], normals[i, 2]
        length = math.sqrt(x * x + y * y + z * z)
        if length > 0:
            scale = np.float32(1 / length)
            normals[i, 0] *= scale
            normals[i, 1] *= scale
            normals[i, 2] *= scale
    return normals


@numba.njit(cache=True, nogil=True)
def _draw(
    vertices,  # float32 [V, 3]
    normals,  # float32 [V, 3]
    albedo,  # float32 [V]
    triangles,  # int32 [T, 3]
    turn,  # float64 [3, 3]
    center,  # float64 [3]
    radius,
    light,  # float64 [3]
    half_view,  # tangent of half the angle of view
    zoom,
    strengths,  # ambient, diffuse, specular, shininess
    background,
    supersample,
    image,  # uint8 [S, S], written
):
    size = image.shape[0]
    fine = size * supersample
    count = len(vertices)
    distance = radius / half_view
    scale = zoom * 0.5 * fine / half_view
    near = 0.01 * distance

    # Half-way vector between the light and the viewer, who is far away compared with the head.
    half_x, half_y, half_z = light[0], light[1], light[2] + 1.0
    length = math.sqrt(half_x * half_x + half_y * half_y + half_z * half_z)
    if length > 0:
        half_x, half_y, half_z = half_x / length, half_y / length, half_z / length
    ambient, diffuse, specular, shininess = strengths[0], strengths[1], strengths[2], strengths[3]

    # Per vertex: place in the fine picture, nearness (one over depth), shade of either side.
    place = np.empty((count, 3), np.float32)
    shade = np.empty((count, 2), np.float32)
    for i in range(count):
        x = vertices[i, 0] - center[0]
        y = vertices[i, 1] - center[1]
        z = vertices[i, 2] - center[2]
        depth = distance - (turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z)
        if depth < near:
            place[i, 2] = -1.0
            continue
        nearness = 1.0 / depth
        place[i, 0] = 0.5 * fine + scale * nearness * (
            turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
        )
        place[i, 1] = 0.5 * fine - scale * nearness * (
            turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
        )
        place[i, 2] = nearness
        u, v, w = normals[i, 0], normals[i, 1], normals[i, 2]
        nx = turn[0, 0] * u + turn[0, 1] * v + turn[0, 2] * w
        ny = turn[1, 0] * u + turn[1, 1] * v + turn[1, 2] * w
        nz = turn[2, 0] * u + turn[2, 1] * v + turn[2, 2] * w
        lit = nx * light[0] + ny * light[1] + nz * light[2]
        glance = nx * half_x + ny * half_y + nz * half_z
        gleam = 0.0
        if specular > 0 and abs(glance) > 0.5:
            gleam = specular * math.exp(shininess * math.log(abs(glance)))
        front = albedo[i] * (ambient + diffuse * max(0.0, lit))
        back = albedo[i] * (ambient + diffuse * max(0.0, -lit))
        shade[i, 0] = front + (gleam if glance > 0 and lit > 0 else 0.0)
        shade[i, 1] = back + (gleam if glance < 0 and lit < 0 else 0.0)

    buffer = np.zeros((fine, fine), np.float32)  # nearness of what is seen; 0 where nothing is
    color = np.full((fine, fine), np.float32(background), np.float32)
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        near_a, near_b, near_c = place[a, 2], place[b, 2], place[c, 2]
        if near_a < 0 or near_b < 0 or near_c < 0:
            continue
        ax, ay = place[a, 0], place[a, 1]
        bx, by = place[b, 0], place[b, 1]
        cx, cy = place[c, 0], place[c, 1]
        # Samples lie at half-integer places.
        left = max(0, int(math.ceil(min(ax, bx, cx) - 0.5)))
        right = min(fine - 1, int(math.floor(max(ax, bx, cx) - 0.5)))
        top = max(0, int(math.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(fine - 1, int(math.floor(max(ay, by, cy) - 0.5)))
        if left > right or top > bottom:
            continue
        area = np.float64(bx - ax) * np.float64(cy - ay) - np.float64(by - ay) * np.float64(cx - ax)
        if area == 0:
            continue
        # The picture's y points down, so a front face (counter-clockwise) has a negative area.
        side = 0 if area < 0 else 1
        shade_a, shade_b, shade_c = shade[a, side], shade[b, side], shade[c, side]
        inverse = 1.0 / area
        step_b = (cy - ay) * inverse
        step_c = -(by - ay) * inverse
        for row in range(top, bottom + 1):
            dy = row + 0.5 - ay
            start_b = -(cx - ax) * dy * inverse
            start_c = (bx - ax) * dy * inverse
            for column in range(left, right + 1):
                dx = column + 0.5 - ax
                weight_b = start_b + dx * step_b
                weight_c = start_c + dx * step_c
                weight_a = 1.0 - weight_b - weight_c
                # A hair of tolerance, so that no sample falls between two triangles.
                if weight_a >= -1e-6 and weight_b >= -1e-6 and weight_c >= -1e-6:
                    nearness = weight_a * near_a + weight_b * near_b + weight_c * near_c
                    if nearness > buffer[row, column]:
                        buffer[row, column] = nearness
                        color[row, column] = (
                            weight_a * shade_a + weight_b * shade_b + weight_c * shade_c
                        )

    share = 255.0 / (supersample * supersample)
    for row in range(size):
        for column in range(size):
            total = 0.0
            for i in range(supersample):
                for j in range(supersample):
                    value = color[row * supersample + i, column * supersample + j]
                    total += min(np.float32(1.0), max(np.float32(0.0), value))
            image[row, column] = np.uint8(total * share + 0.5)
