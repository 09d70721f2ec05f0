"""Small files in the formats of the image data sets, as a test needs them; with the overrides that read them."""

import io
import pickle
import tarfile

import numpy as np
import torch
from PIL import Image


def drawn(shape, seed=0):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def small_cifar10(root, each=20, test=12):
    """Five training files and one of tests: the overrides, and the tensors of all of them."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    x, label = drawn((5 * each + test, 3, 32, 32)), torch.arange(5 * each + test) % 10
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name, rows in zip(names, torch.arange(len(x)).split([each] * 5 + [test]), strict=True):
        held = {b"batch_label": name.encode(), b"labels": label[rows].tolist(), b"data": x[rows].flatten(1).numpy()}
        (folder / name).write_bytes(pickle.dumps(held))
    sizes = (f"data.sizes.train={5 * each - 20}", "data.sizes.val=20", f"data.sizes.test={test}")
    return [f"data.root={root}", "data.md5=null", *sizes], (x, label)


def small_imagenet(root, side=32, each=3, test=4):
    """The npz release: ten training files and one of validation images; classes count from 1."""
    root.mkdir(parents=True, exist_ok=True)
    x, label = drawn((10 * each + test, 3, side, side)), torch.arange(10 * each + test) % 1000
    names = [f"train_data_batch_{i}" for i in range(1, 11)] + ["val_data"]
    for name, rows in zip(names, torch.arange(len(x)).split([each] * 10 + [test]), strict=True):
        np.savez_compressed(root / f"{name}.npz", data=x[rows].flatten(1).numpy(), labels=label[rows].numpy() + 1)
    sizes = (f"data.sizes.train={10 * each - 8}", "data.sizes.val=8", f"data.sizes.test={test}")
    return [f"data.root={root}", f"data.cache={root}/cache", *sizes], (x, label)


def encoded(x, mode=None, kind="PNG"):
    """An image (C, H, W) of bytes as a file's content."""
    image = Image.fromarray(x.permute(1, 2, 0).squeeze(2).numpy())
    buffer = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(buffer, kind)
    return buffer.getvalue()


def small_imagenet_pictures(root, side=32, train=30, test=4, archives=False):
    """The png release, in two folders or two tar archives: the overrides, and the images by name."""
    root.mkdir(parents=True, exist_ok=True)
    images = {}
    for part, count in (("train", train), ("valid", test)):
        folder = f"{part}_{side}x{side}"
        x = drawn((count, 3, side, side), seed=count)
        found = {f"{i:07d}.png": image for i, image in enumerate(x)}
        images |= {(part, name): image for name, image in found.items()}
        if archives:
            with tarfile.open(root / f"{folder}.tar", "w") as archive:
                for name, image in reversed(found.items()):
                    member = tarfile.TarInfo(f"{folder}/{name}")
                    content = encoded(image)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        else:
            (root / folder).mkdir()
            for name, image in found.items():
                (root / folder / name).write_bytes(encoded(image))
    sizes = (f"data.sizes.train={train - 8}", "data.sizes.val=8", f"data.sizes.test={test}")
    return [f"data.root={root}", f"data.cache={root}/cache", *sizes], images


def small_folder(root, each=10, shape=(3, 32, 32), classes=("cat", "dog", "emu")):
    """``each`` PNG files in a folder a class: the overrides, and the images by their paths from ``root``."""
    images = {}
    for k, kind in enumerate(classes):
        (root / kind).mkdir(parents=True)
        for i, image in enumerate(drawn((each, *shape), seed=k)):
            (root / kind / f"{i}.png").write_bytes(encoded(image))
            images[f"{kind}/{i}.png"] = image
    return [f"data.root={root}", f"data.cache={root.parent}/cache"], images
