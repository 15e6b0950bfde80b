import sys
import types
from collections.abc import Sequence

import pytest

from dcign_tf.datasets import readers
from dcign_tf.datasets.readers import READERS, Reader, load_table
from dcign_tf.datasets.tables import ImageTable
from dcign_tf.errors import UsageError
from dcign_tf.scenes import SOURCES
from tests.datasets import toys


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What a reader with options of all kinds was called with."""
    calls: list[dict] = []

    def load(
        path: str,
        *,
        crop: float = 1.0,
        size: int | None = None,
        names: Sequence[str] | None = None,
        sizes: Sequence[int] = (),
        strict: bool = False,
        factors: Sequence[str] | None = None,
        seed: int = 0,
    ) -> ImageTable:
        calls.append({k: v for k, v in locals().items() if k != "calls"})
        return toys.table(1)

    module = types.ModuleType("a_reader")
    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_reader", module)
    monkeypatch.setattr(readers, "READERS", {**READERS, "toys": Reader("a_reader", "toys")})
    return calls


def test_options_are_what_the_reader_says(called: list[dict]) -> None:
    given = ["crop=0.5", "size=3", "names=a, b", "sizes=1,2", "strict=true"]
    load_table("toys", "there", given, seed=4, factors=["spin"])
    assert called == [
        {
            "path": "there",
            "crop": 0.5,
            "size": 3,
            "names": ("a", "b"),
            "sizes": (1, 2),
            "strict": True,
            "factors": ("spin",),
            "seed": 4,
        }
    ]
    load_table("toys", "there")
    assert called[1]["names"] is None and called[1]["factors"] is None


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("color=3", "has no option 'color'; it has crop, size, names, sizes, strict"),
        ("seed=3", "has no option 'seed'"),
        ("crop=wide", "got 'crop=wide'; 'wide' must be a number"),
        ("size=1.5", "'1.5' must be a whole number"),
        ("sizes=1,,2", "'' must be a whole number"),
        ("strict=yes", "'yes' must be true or false"),
        ("names=", "'' must be a text"),
    ],
)
def test_mistakes_name_the_option(option: str, message: str, called: list[dict]) -> None:
    with pytest.raises(UsageError, match="^--source_option: ") as error:
        load_table("toys", "there", [option])
    assert message in str(error.value)
    assert not called


def test_a_path_is_needed() -> None:
    with pytest.raises(UsageError, match="--source_path: missing; --source=folders reads <folder>"):
        load_table("folders", None)


def test_sources_have_names_of_their_own() -> None:
    assert not set(READERS) & set(SOURCES)
