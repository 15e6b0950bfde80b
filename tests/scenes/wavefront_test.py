"""The OBJ reader: what it reads, and what it says about files that are not as they should be."""

import pathlib
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from dcign_tf.errors import DcignError
from dcign_tf.scenes import wavefront

SMALL = b"""# two materials, a quad and a triangle
mtllib some.mtl
v 0 0 0
v 1.5 0 -2e-1
v\t1 1 0 0.25 0.5 0.75
v 0 1 0

vt 0.25 0.75
vn 0 0 1
usemtl Red paint
f 1/1 2/1 3/1 4/1
usemtl Blue
f 1//1 2//1 3/1/1
usemtl Red paint
f 4 3 1
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "small.obj"


def test_reads_polygons_as_fans_with_their_materials(path: pathlib.Path) -> None:
    path.write_bytes(SMALL)
    mesh = wavefront.read_mesh(path)
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1.5, 0, -0.2], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.triangles, [[0, 1, 2], [0, 2, 3], [0, 1, 2], [3, 2, 0]])
    assert mesh.materials == ("Red paint", "Blue")
    np.testing.assert_array_equal(mesh.triangle_material, [0, 0, 1, 0])
    np.testing.assert_array_equal(wavefront.read_vertices(path), mesh.vertices)


def test_line_ends_of_other_systems_and_faces_without_material(path: pathlib.Path) -> None:
    path.write_bytes(b"v 0 0 0\r\nv 1 0 0\r\nv 0 1 0\r\nf 1 2 3\r\n")
    mesh = wavefront.read_mesh(path)
    np.testing.assert_array_equal(mesh.triangles, [[0, 1, 2]])
    np.testing.assert_array_equal(mesh.triangle_material, [-1])
    assert mesh.materials == ()


@pytest.mark.parametrize(
    ("old", "new", "line", "found"),
    [
        (b"v 1.5 0 -2e-1", b"v 1.5 0 zero", 4, "v 1.5 0 zero"),
        (b"v 1.5 0 -2e-1", b"v 1.5 0", 4, "v 1.5 0"),
        (b"v 1.5 0 -2e-1", b"v ", 4, "v "),
        (b"v 1.5 0 -2e-1", b"v 1.5 nan 0", 4, "nan"),
        (b"v 1.5 0 -2e-1", b"v 1.5 inf 0", 4, "inf"),
        (b"v 1.5 0 -2e-1", b"v 1.5 1e999 0", 4, "1e999"),
        (b"v 1.5 0 -2e-1", b"v 1.5 0 \xff\xfe", 4, "v 1.5 0"),
        (b"f 4 3 1", b"f 4 3 5", 15, "'5'"),
        (b"f 4 3 1", b"f 4 0 1", 15, "'0'"),
        (b"f 4 3 1", b"f 4 -1 1", 15, "'-1'"),
        (b"f 4 3 1", b"f 4 1.5 1", 15, "'1.5'"),
        (b"f 4 3 1", b"f 4 /1 1", 15, "''"),
        (b"f 4 3 1", b"f 4 3", 15, "2 corners"),
        (b"f 4 3 1", b"f 4 3 " + b"9" * 5000, 15, "9..."),
    ],
)
def test_a_bad_line_is_named(
    path: pathlib.Path, old: bytes, new: bytes, line: int, found: str
) -> None:
    path.write_bytes(SMALL.replace(old, new))
    with pytest.raises(DcignError) as error:
        wavefront.read_mesh(path)
    message = str(error.value)
    assert message.startswith(f"{path}: line {line}: got ")
    assert found in message
    assert "\n" not in message and len(message) < len(str(path)) + 150


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (SMALL[:-2], "cut short"),
        (b"# nothing\n", "holds no vertex"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\n", "holds no vertex"),
    ],
)
def test_what_is_no_obj_file_is_refused(path: pathlib.Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    for read in (wavefront.read_mesh, wavefront.read_vertices):
        with pytest.raises(DcignError, match=message) as error:
            read(path)
        assert str(path) in str(error.value)


def test_what_cannot_be_read_is_named(path: pathlib.Path) -> None:
    with pytest.raises(DcignError, match=r"small\.obj: cannot read .* No such file"):
        wavefront.read_vertices(path)
    path.mkdir()
    with pytest.raises(DcignError, match=r"small\.obj: not a file"):
        wavefront.read_vertices(path)


def test_huge_files_are_refused_unread(path: pathlib.Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no space
    with pytest.raises(DcignError, match="larger than 16 MiB"):
        wavefront.read_vertices(path)
    path.write_bytes(b"v 0 0 0\n" * (wavefront.MAX_VERTICES + 1))
    with pytest.raises(DcignError, match="holds 200001 vertices"):
        wavefront.read_vertices(path)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """`SMALL` with some places overwritten, grown, shrunk or shuffled."""
    content = bytearray(SMALL)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 12)))
        insert = draw(
            st.sampled_from(
                [
                    b"",
                    b"0",
                    b"-",
                    b"\n",
                    b" ",
                    b"/",
                    b"nan ",
                    b"1e400",
                    b"\x00",
                    b"v ",
                    b"f ",
                    b"99",
                ]
            )
            | st.binary(max_size=6)
            | st.just(bytes(content[:start]))
        )
        content[start:stop] = insert
    return bytes(content)


@hypothesis.given(_mutated())
@hypothesis.settings(
    max_examples=300,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_a_damaged_file_is_a_valid_mesh_or_a_clear_error(
    path: pathlib.Path, content: bytes
) -> None:
    path.write_bytes(content)
    try:
        mesh = wavefront.read_mesh(path)
    except DcignError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
        return
    count = len(mesh.vertices)
    assert mesh.vertices.shape == (count, 3) and np.isfinite(mesh.vertices).all()
    assert mesh.triangles.shape == (len(mesh.triangle_material), 3)
    if mesh.triangles.size:
        assert mesh.triangles.min() >= 0 and mesh.triangles.max() < count
        assert mesh.triangle_material.min() >= -1
        assert mesh.triangle_material.max() < len(mesh.materials)


@hypothesis.given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=20),
    st.sampled_from([repr, "{:.6g}".format, "{:+.5f}".format, "{:E}".format, "{:.0f}.".format]),
    st.sampled_from([" ", "\t", "   "]),
    st.sampled_from(["\n", "\r\n", " 0.5 0.5 0.5\n", "\r"]),
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_vertices_come_back_exactly(
    path: pathlib.Path,
    points: list[tuple[float, float, float]],
    write: Callable[[float], str],
    gap: str,
    end: str,
) -> None:
    lines = [gap.join(["v", *map(write, point)]) + end for point in points]
    path.write_bytes("".join(lines).encode())
    expected = [[float(write(value)) for value in point] for point in points]
    np.testing.assert_array_equal(wavefront.read_vertices(path), expected)


@hypothesis.given(st.text("0123456789.eE+- \t", max_size=30))
@hypothesis.example("1. .5 -.0e-3")
@hypothesis.example("1 2 . 3")
@hypothesis.example("12345678901234567890 9007199254740993e-11 1e-30")
@hypothesis.settings(
    max_examples=300,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_numbers_are_what_python_takes_them_for(path: pathlib.Path, words: str) -> None:
    path.write_bytes(b"v " + words.encode() + b"\n")
    try:
        expected = [float(word) for word in words.split()[:3]]
        right = len(expected) == 3 and all(abs(value) <= 1e6 for value in expected)
    except ValueError:
        right = False
    if right:
        np.testing.assert_array_equal(wavefront.read_vertices(path), [expected])
    else:
        with pytest.raises(DcignError, match="line 1"):
            wavefront.read_vertices(path)
