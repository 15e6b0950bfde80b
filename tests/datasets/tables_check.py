"""What holds of every table, whatever it was read from."""

import numpy as np

from dcign_tf.datasets.tables import ImageTable


def check(table: ImageTable, rows: int = 8) -> None:
    """Checks a table and reads up to `rows` of its images.

    Raises:
        AssertionError: something is not as `ImageTable` says.
        DcignError: an image cannot be read.
    """
    n = len(table.images)
    assert n > 0
    assert table.source
    assert "\n" not in table.source
    assert len(table.factors) == len(set(table.factors)) > 0
    assert all(name.isidentifier() and name == name.lower() for name in table.factors)
    assert set(table.values) == set(table.units) == set(table.factors)
    assert set(table.periods) <= set(table.factors)
    for values in table.values.values():
        assert values.shape == (n,)
        assert values.dtype == np.float64
    assert table.identity.shape == (n,)
    assert table.identity.dtype == np.int64
    if table.split is not None:
        assert len(table.split) == n
        assert set(table.split) <= {"train", "validation", "test"}
    for row in np.unique(np.linspace(0, n - 1, rows).astype(int)).tolist():
        image = table.images.read(row)
        assert image.dtype == np.uint8
        assert image.ndim == 2
        assert image.size
