"""The count against the paper's network worked out by hand, layer by layer."""

from dcign_tf.benchmarks.counting import parameters, training_multiplications


def test_the_papers_network() -> None:
    # Multiplications forward, for one image.
    first = 51_158_400  # 146 x 146 outputs, 25 taps, 1 -> 96
    others = (
        731_289_600  # 69 x 69, 25, 96 -> 64
        + 46_080_000  # 30 x 30, 25, 64 -> 32
        + 2 * 1_440_000  # 7200 -> 200, twice
        + 1_440_000  # 200 -> 7200
        + 9_437_184  # 24 x 24, 16 taps, 32 -> 32
        + 57_802_752  # 42 x 42, 16, 32 -> 64
        + 598_081_536  # 78 x 78, 16, 64 -> 96
        + 34_560_000  # 150 x 150, 16, 96 -> 1
    )
    assert training_multiplications() == 20 * (2 * first + 3 * others) == 90_940_600_320


def test_a_small_network_with_other_numbers_everywhere() -> None:
    # 38 -> 34 -> 17 -> 13 -> 6 -> 2 -> 1, and 8 -> 10 -> 14 -> 22 -> 38.
    first = 34 * 34 * 25 * 2
    others = 13 * 13 * 25 * 2 * 3 + 2 * 2 * 25 * 3 * 5 + 2 * 5 * 7
    others += 7 * 64 * 11 + 10 * 10 * 16 * 11 * 11 + 14 * 14 * 16 * 11 * 13
    others += 22 * 22 * 16 * 13 * 17 + 38 * 38 * 16 * 17
    assert training_multiplications(38, (2, 3, 5), (11, 13, 17), 7, 3) == 3 * (
        2 * first + 3 * others
    )


def test_the_papers_parameters() -> None:
    encoder = 26 * 96 + (25 * 96 + 1) * 64 + (25 * 64 + 1) * 32 + 2 * 7201 * 200
    # 201 numbers for each of 15 x 15 x 32, then 7 x 7 kernels.
    decoder = (
        201 * 7200 + (49 * 32 + 1) * 32 + (49 * 32 + 1) * 64 + (49 * 64 + 1) * 96 + 49 * 96 + 1
    )
    assert parameters() == encoder + decoder == 4_991_473
