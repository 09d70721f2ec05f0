"""What a file's compressed parts may unpack to."""

import zlib

import pytest

from vdm.codec.container import CONDITION, NAME, _conditions, _names
from vdm.errors import InvalidInput


@pytest.mark.parametrize(("read", "most"), [(_names, NAME), (_conditions, CONDITION)])
def test_parts_unpack_to_a_bounded_size(read, most):
    """A thousandth of its size on disk, for one image."""
    content = zlib.compress(b"0" * (10 * most), 9)
    assert len(content) < most // 50
    with pytest.raises(InvalidInput, match="cannot be read"):
        read(content, 1)


def test_conditions_with_a_false_header_are_refused():
    header = (
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000,), }".ljust(117) + b"\n"
    )
    with pytest.raises(InvalidInput, match="conditions cannot be read"):
        _conditions(zlib.compress(header), 10**9)
