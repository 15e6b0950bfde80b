"""What a server says reads as if it had been said to a person."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf.serving import server_errors


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Servable not found for request: Latest(a)", "Servable not found for request: Latest(a)"),
        (
            "assertion failed: [images: got shape [1, 2]; must be [N, 3]]\n\t [[{{node cond/Assert}}]]",
            "images: got shape [1, 2]; must be [N, 3]",
        ),
        (
            "a\n\t [[{{function_node f}}{{node b}}]] and\n [[{{node c}}]]",
            "a and",
        ),
        ("x" * 600, "x" * 500 + "..."),
    ],
)
def test_messages(message: str, told: str) -> None:
    assert server_errors.for_people(message) == told


@given(st.text(max_size=60) | st.text("[]{}a \nassertion failed: ", max_size=60))
def test_any_message_is_one_line(message: str) -> None:
    told = server_errors.for_people(message)
    assert len(told.splitlines()) <= 1 and len(told) <= 503
