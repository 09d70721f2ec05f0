"""Small files in the formats of the image data sets, as a test needs them; with the overrides that read them."""

import pickle

import torch


def drawn(shape, seed=0):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def pickled(content):
    """A pickle that names NumPy's parts as they were called when the Python version was made."""
    return pickle.dumps(content, protocol=3).replace(b"numpy._core", b"numpy.core")


def small_cifar10(root, each=20, test=12):
    """Five training files and one of tests: the overrides, and the tensors of all of them."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    x, label = drawn((5 * each + test, 3, 32, 32)), torch.arange(5 * each + test) % 10
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name, rows in zip(names, torch.arange(len(x)).split([each] * 5 + [test]), strict=True):
        held = {b"batch_label": name.encode(), b"labels": label[rows].tolist(), b"data": x[rows].flatten(1).numpy()}
        (folder / name).write_bytes(pickled(held))
    sizes = (f"data.sizes.train={5 * each - 20}", "data.sizes.val=20", f"data.sizes.test={test}")
    return [f"data.root={root}", "data.md5=null", *sizes], (x, label)
