"""Small files in the idx format, as a test needs them."""

import gzip
import struct

import torch


def write_idx(path, values):
    """``values``, a uint8 tensor, gzipped where the name ends in .gz."""
    content = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.numpy().tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def small_mnist(root, train=100, test=12, ending=".gz"):
    """Four files in ``root`` with random images of 28×28: the overrides that read them, 80 to train, and the tensors."""
    stream, tensors = torch.Generator().manual_seed(0), {}
    for stem, count in (("train", train), ("t10k", test)):
        x = torch.randint(256, (count, 28, 28), generator=stream, dtype=torch.uint8)
        label = torch.randint(10, (count,), generator=stream, dtype=torch.uint8)
        write_idx(root / f"{stem}-images-idx3-ubyte{ending}", x)
        write_idx(root / f"{stem}-labels-idx1-ubyte{ending}", label)
        tensors[stem] = (x, label)
    sizes = (f"data.sizes.train={train - 20}", "data.sizes.val=20", f"data.sizes.test={test}")
    return [f"data.root={root}", "data.sha256=null", *sizes], tensors
