"""Pictures whose folder is their class, as ImageNet has them: ``train/<class>/*`` or ``<class>/*``."""

from __future__ import annotations

import os

from plrc.data.sources import ImageFolder


class ClassFolders(ImageFolder):
    """A Source of the pictures under a folder, labelled by the first folder below it (below its ``train/``).

    Raises:
        ValueError: a picture lies in no class folder, or there is only one class. FileNotFoundError: no pictures.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        split = [self.name(i).split("/") for i in range(len(self))]
        # The training split alone is listed as train/<class>/…; among other folders "train" is a class.
        depth = 1 if all(parts[0] == "train" and len(parts) > 2 for parts in split) else 0
        loose = next(("/".join(parts) for parts in split if len(parts) <= depth + 1), None)
        if loose:
            raise ValueError(f"{self.root}: {loose} lies in no class folder: expected <class>/* or train/<class>/*")
        self._labels = [parts[depth] for parts in split]
        if len(set(self._labels)) < 2:
            raise ValueError(f"{self.root} has one class only, {self._labels[0]}: expected several class folders")

    def label(self, i: int) -> str:
        """The class of picture i."""
        self.name(i)
        return self._labels[i]
