"""No changed byte of a file passes, and none makes the decoder hang or ask for memory."""

import hashlib
import json
from contextlib import suppress

import pytest
import torch

import vdm
from support.pixels import pixel_images, pixel_model
from vdm.codec.container import DIGEST, FRONT, read
from vdm.elbo import DiscreteTime
from vdm.errors import InvalidInput

IMAGES = pixel_images(3, (1, 3, 2))


@pytest.fixture(scope="module")
def content():
    return vdm.compress(pixel_model(DiscreteTime(3)), IMAGES)


def refused(content, match=""):
    with pytest.raises(InvalidInput, match=match) as caught:
        vdm.decompress(pixel_model(DiscreteTime(3)), content)
    assert "\n" not in str(caught.value)


def sealed(content):
    body = content[:-DIGEST]
    return body + hashlib.blake2b(body, digest_size=DIGEST).digest()


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_changed_byte_is_refused(content, flip):
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= flip
        refused(bytes(changed))


def test_every_shorter_file_is_refused(content):
    for length in range(len(content)):
        refused(content[:length])
    refused(content + b"\0")


@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_changed_bytes_with_a_new_seal_decode_to_the_images_or_not(content, flip):
    """A forged checksum of the file does not get other images past those of the images."""
    for place in range(len(content) - DIGEST):
        changed = bytearray(content)
        changed[place] ^= flip
        with suppress(InvalidInput):
            decoded = vdm.decompress(pixel_model(DiscreteTime(3)), sealed(bytes(changed)))
            assert torch.equal(decoded.long(), IMAGES.long()), place


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", 10**9), ("images", -1), ("shape", [1, 2**20, 2**20]), ("shape", []), ("batch", 2**30), ("block", 0),
        ("timesteps", 1), ("timesteps", 2**30), ("spacing", "xyz"), ("dtype", "O"), ("torch", 3),
    ],
)  # fmt: skip
def test_forged_headers_are_refused(content, name, value):
    header, _ = read(content)
    length = FRONT.unpack_from(content)[2]
    forged = json.dumps(list(header._replace(**{name: value}))).encode()
    front = FRONT.pack(b"vdmc", 1, len(forged))
    refused(sealed(front + forged + content[FRONT.size + length :]))


def test_other_format_is_named(content):
    changed = bytearray(content)
    changed[4] = 9
    refused(bytes(changed), "format 9")
