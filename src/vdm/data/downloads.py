"""Image data sets of a few files, which are downloaded if they are missing or broken."""

import os
import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock

from vdm.data.source import ImageSource
from vdm.data.split import Split
from vdm.errors import InvalidInput, one_line


class File(NamedTuple):
    """A file that was read: its path, the digest that identifies it, and its content."""

    path: Path
    digest: str
    content: Any


class DownloadedImages(ImageSource):
    """Images in files that torchvision can download.

    The first training images train, the rest of them validate, the test images test.

    Args:
        root: folder of the files, or a parent of it: see ``folders``.
        sizes: number of examples of each split; together they must account for every image.
        digests: known digests by key, to refuse other files; none to accept any files in the same format.
        download: fetch missing or broken files into ``root``.
        labels: yield the classes 0 … 9 as conditions.
    """

    collection: str  # torchvision's name of the data set
    url: str
    folders: tuple[str, ...]  # folders below ``root`` where the files may lie; downloads go to the first
    endings: tuple[str, ...] = ("",)
    files: tuple[str, ...]
    algorithm: str  # name of the setting with the digests

    def __init__(
        self,
        event_shape: Sequence[int],
        root: str,
        sizes: Mapping[str, int],
        digests: Mapping[str, str] | None = None,
        download: bool = False,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape)
        self.root, self.digests = Path(root).expanduser(), dict(digests or {})
        self.sizes: Mapping[str, int] = dict(sizes)
        self.download, self.labels = download, labels

    @abstractmethod
    def read(self, path: Path) -> File:
        """Read one file; raise InvalidInput if it is damaged or of another format."""

    @abstractmethod
    def part(self, name: str, files: Mapping[str, File]) -> list[torch.Tensor]:
        """Return images and classes of ``train`` or ``test``."""

    def load(self) -> dict[str, Split]:
        files = self._fetched() if self.download else self._read()
        size = self.sizes["train"]
        train = self._counted("train", files, size + self.sizes["val"])
        test = self._counted("test", files, self.sizes["test"])
        parts = {"train": [part[:size] for part in train], "val": [part[size:] for part in train], "test": test}
        return {name: Split(x, label.long() if self.labels else None) for name, (x, label) in parts.items()}

    def check_digest(self, key: str, file: File) -> None:
        """Raise InvalidInput if the file has another digest than the known one."""
        known = self.digests.get(key)
        if known is not None and file.digest != known:
            raise InvalidInput(
                f"{self.name}: {file.path} is not {self.collection}'s ({self.algorithm} {file.digest[:16]}…, not "
                f"{known[:16]}…): remove it and set data.download=true, or set data.{self.algorithm}=null for other data "
                "in the same format"
            )

    def fetcher(self) -> Any:
        """Return torchvision's class that downloads the files."""
        from torchvision import datasets

        return getattr(datasets, self.collection)

    def _counted(self, name: str, files: Mapping[str, File], count: int) -> list[torch.Tensor]:
        x, label = self.part(name, files)
        if not len(x) == len(label) == count:
            raise InvalidInput(
                f"{self.name}: {len(x)} {name} images and {len(label)} labels in {self.root}, but data.sizes asks for "
                f"{count} of each"
            )
        return [x, label]

    def _read(self) -> dict[str, File]:
        return {name: self.read(self._find(name)) for name in self.files}

    def _find(self, name: str) -> Path:
        places = [self.root / folder / f"{name}{ending}" for folder in self.folders for ending in self.endings]
        found = next((path for path in places if path.is_file()), None)
        if found is None:
            raise InvalidInput(
                f"{self.name}: no {' or '.join(name + ending for ending in self.endings)} in {self.root}: get the "
                f"files from {self.url} and set data.root= to their folder, or have them fetched by data.download=true"
            )
        return found

    def _fetched(self) -> dict[str, File]:
        """Read the files; if one is refused, fetch them all and read again.

        They are fetched into a folder beside their own and moved from there, by one process while others wait: each file
        is whole or not there.
        """
        with suppress(InvalidInput):
            return self._read()
        part, folder = self.root / ".fetched.part", self.root / self.folders[0]
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(part.with_suffix(".lock")):
                with suppress(InvalidInput):  # another process may have fetched them
                    return self._read()
                self._fetch(part, folder)
        except (OSError, RuntimeError, HTTPException) as error:
            reason = one_line(error, 200)
            raise InvalidInput(f"{self.url} cannot be fetched ({reason}): put its files into {folder} yourself") from error
        return self._read()

    def _fetch(self, part: Path, folder: Path) -> None:
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        try:
            self.fetcher()(str(part), download=True)
            folder.mkdir(parents=True, exist_ok=True)
            for path in (part / self.folders[0]).iterdir():
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
