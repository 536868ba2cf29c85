"""Features: what a frozen vision tower makes of a gallery's pictures, read in their place.

`FeatureCache` computes them once and keeps them on disk: each picture as it is (view 0) and in a few augmented views,
so that the model memorises the picture and not its file. A folder holds `features.json` and shards of bfloat16
safetensors; a shard appears whole or not at all, so that an interrupted computation goes on with the next one. Only the
shard that is written, or the views that are read, are held in memory. Several processes share the shards out. In
`RepeatedFeatures` those of one picture stand for all, where a training is only timed.
"""

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gcr_core.data.gallery import Gallery
from gcr_core.files.atomic import Temporary, new_file, write_text
from gcr_core.models.backbone import Backbone
from gcr_core.models.distributed import agreed, state
from gcr_core.training.augment import Augmenter

FEATURES_FILE = "features.json"
"""Says what the features in a folder were computed of."""
PICTURES_A_SHARD = 32
"""How many pictures a shard has the features of, each view counted."""
VISION_BATCH = 8
"""The batch size of the vision tower."""
DISK_SHARE = 0.5
"""The share of the free disk space that a cache may take."""


class Features(Protocol):
    """What training reads in the place of pictures: features (tokens, hidden) of each view of each picture."""

    views: int
    """How many views each picture has: the first as it is, the others augmented."""

    def read(self, images: Sequence[int] | np.ndarray, views: Sequence[int] | np.ndarray) -> torch.Tensor:
        """(b, tokens, hidden): a view of each of these images."""
        ...

    def pictures(self, images: Sequence[int]) -> torch.Tensor:
        """(b, tokens, hidden): the features of these images as they are."""
        return self.read(images, [0] * len(images))


class RepeatedFeatures(Features):
    """The features of one picture, the same for every image and every view."""

    def __init__(self, features: torch.Tensor):
        """`features` (1, tokens, hidden)"""
        self.features, self.views = features, 1

    def read(self, images: Sequence[int] | np.ndarray, views: Sequence[int] | np.ndarray) -> torch.Tensor:
        return self.features.expand(len(images), -1, -1)


class FeatureCache(Features):
    """The features of `images` pictures in `views` views, in a folder."""

    def __init__(self, folder: Path, images: int, views: int, tokens: int, hidden: int):
        self.folder, self.images, self.views = folder, images, views
        self.tokens, self.hidden = tokens, hidden
        self.images_a_shard = max(1, PICTURES_A_SHARD // views)
        self._temporary: Temporary | None = None

    @classmethod
    def compute(
        cls,
        backbone: Backbone,
        gallery: Gallery,
        views: int,
        seed: int = 0,
        folder: Path | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> "FeatureCache | None":
        """Computes what a folder lacks of the features; returns them, or None where the disk has room for no view.

        Without a folder they are in a temporary one, for as long as they are used. There are fewer views where the disk
        has no room for all. `on_progress(done, total)` counts views of pictures; its exception stops the computation.
        Raises InputError for a picture that cannot be opened.
        """
        processes = state()
        temporary = None
        if folder is None:
            temporary = Temporary("gcr-features-")
            folder = Path(agreed(temporary.name))
        prompt = backbone.image_prompt()
        tokens, hidden = prompt.count(backbone.image_token_id), backbone.feature_size
        made_of = {
            "backbone": [backbone.name, backbone.revision],
            "images": len(gallery),
            "seed": seed,
            "tokens": tokens,
            "hidden": hidden,
        }
        folder.mkdir(parents=True, exist_ok=True)
        with processes.local_main_process_first():
            kept = _read(folder)
            if {**kept, "views": None} != {**made_of, "views": None}:
                a_view = len(gallery) * tokens * hidden * torch.bfloat16.itemsize
                views = min(views, int(DISK_SHARE * shutil.disk_usage(folder).free) // a_view)
                for path in folder.glob("*.safetensors"):
                    path.unlink()
                kept = {**made_of, "views": views}
                write_text(folder / FEATURES_FILE, json.dumps(kept))
        if not kept["views"]:
            return None
        features = cls(folder, len(gallery), kept["views"], tokens, hidden)
        features._temporary = temporary
        missing = features._missing()
        done = features.total - sum(len(features._shard(shard)) for shard in missing) * features.views
        for shard in missing[processes.process_index :: processes.num_processes]:
            for count in features._make(shard, backbone, gallery, seed):
                done += count * processes.num_processes
                on_progress(min(done, features.total), features.total)
        processes.wait_for_everyone()
        if processes.is_local_main_process:  # Machines without a common disk lack the shards of the others.
            for shard in features._missing():
                for _ in features._make(shard, backbone, gallery, seed):
                    on_progress(features.total, features.total)
        processes.wait_for_everyone()
        return features

    @property
    def shards(self) -> int:
        return -(-self.images // self.images_a_shard)

    @property
    def total(self) -> int:
        """The views of all pictures."""
        return self.images * self.views

    def read(self, images: Sequence[int] | np.ndarray, views: Sequence[int] | np.ndarray) -> torch.Tensor:
        """(b, tokens, hidden) bfloat16, on the CPU: a view of each of these images."""
        read = torch.empty(len(images), self.tokens, self.hidden, dtype=torch.bfloat16)
        for place, (image, view) in enumerate(zip(images, views, strict=True)):
            shard, row = divmod(int(image), self.images_a_shard)
            with safe_open(self._path(shard), "pt") as file:
                read[place] = file.get_slice("features")[row, int(view)]
        return read

    def _missing(self) -> list[int]:
        return [shard for shard in range(self.shards) if not self._path(shard).exists()]

    def _shard(self, shard: int) -> range:
        """The images of a shard."""
        first = shard * self.images_a_shard
        return range(first, min(first + self.images_a_shard, self.images))

    def _path(self, shard: int) -> Path:
        return self.folder / f"{shard:06}.safetensors"

    def _make(self, shard: int, backbone: Backbone, gallery: Gallery, seed: int) -> Iterator[int]:
        """Writes a shard; yields the size of each batch that went through the vision tower."""
        images = self._shard(shard)
        wanted = [(image, view) for image in images for view in range(self.views)]
        augmenter = Augmenter(backbone.processor.image_processor, gallery)
        made = torch.empty(len(wanted), self.tokens, self.hidden, dtype=torch.bfloat16)
        for start in range(0, len(wanted), VISION_BATCH):
            pictures = [
                augmenter.augmented(image, random.Random(f"{seed} {image} {view}")) if view else gallery.open(image)
                for image, view in wanted[start : start + VISION_BATCH]
            ]
            made[start : start + len(pictures)] = backbone.image_features(pictures)
            yield len(pictures)
        with new_file(self._path(shard)) as building:
            save_file({"features": made.view(len(images), self.views, self.tokens, self.hidden)}, building)


def _read(folder: Path) -> dict[str, Any]:
    """What the features in a folder were made of; nothing where there are none or the file is damaged."""
    try:
        return json.loads((folder / FEATURES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
