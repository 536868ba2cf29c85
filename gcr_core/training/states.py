"""States: what a frozen backbone makes of a gallery's captions and pictures, each read or seen once.

They stand in the memory of the process; several processes share the reading out.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from gcr_core.data.gallery import Gallery
from gcr_core.data.stems import album_words
from gcr_core.files.atomic import new_file
from gcr_core.models.backbone import Backbone
from gcr_core.models.distributed import agreed, gathered, share, state
from gcr_core.training.augment import Augmenter, misspell
from gcr_core.training.batches import text_inputs
from gcr_core.training.features import VISION_BATCH, Features

READ_TOGETHER = 64
"""How many texts, or pictures, the backbone reads together; texts of about one length. Of a hub
backbone's pictures, whose prompts are long, it is VISION_BATCH."""
WORN = 16
"""How many pictures are read again from worn copies, and how many captions with a typing error."""


@dataclass
class States:
    """The states behind the whole prompts, float32, on the backbone's device."""

    texts: dict[str, int]
    """Caption → its row."""
    of_texts: torch.Tensor
    """(texts, state)."""
    of_pictures: torch.Tensor
    """(views, images, state): of each picture as it is, then of augmented views."""
    worn: torch.Tensor
    """(n, state): how the states of worn copies of a few pictures, and of mistyped captions, differ from theirs."""
    of_albums: torch.Tensor | None = None
    """(images, state): of the words in the name of each image's album, 0 where it has none."""

    @classmethod
    @torch.no_grad()
    def read(
        cls,
        backbone: Backbone,
        gallery: Gallery,
        features: Features | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        on_look: Callable[[int, int], None] = lambda done, total: None,
        folder: Path | None = None,
        phrases: Sequence[str] = (),
    ) -> Self:
        """Of all captions of a gallery, of `phrases`, and of its pictures or `features` of these.

        `on_progress(done, total)` counts captions and phrases, `on_look` pictures that there are no features of; their
        exceptions stop the reading. What a `folder` has of it is not read again. Raises InputError for a picture that
        cannot be opened.
        """
        kept = _Kept(folder)
        texts = list(dict.fromkeys(chain(*gallery.captions, phrases)))
        order = np.argsort([len(text) for text in texts], kind="stable")
        own = order[share(len(texts))] if texts else order
        read = torch.zeros(len(own), backbone.state_size, device=backbone.device)
        for start in range(0, len(own), READ_TOGETHER):
            some = [texts[row] for row in own[start : start + READ_TOGETHER]]

            def read_some(some: list[str] = some) -> torch.Tensor:
                return state_of(backbone, text_inputs(backbone, some))

            read[start : start + len(some)] = kept(f"texts-{start}", read_some)
            on_progress(min(len(texts), (start + len(some)) * len(texts) // len(own)), len(texts))
        sorted_states = gathered(read, len(texts)) if texts else read
        of_texts = torch.empty_like(sorted_states)
        of_texts[torch.from_numpy(order).to(of_texts.device)] = sorted_states
        views = [
            _pictures(backbone, gallery, features, view, on_look, kept)
            for view in range(features.views if features else 1)
        ]
        no_worn = of_texts.new_zeros(0, backbone.state_size)
        of_albums = _albums(backbone, gallery)
        return cls({text: row for row, text in enumerate(texts)}, of_texts, torch.stack(views), no_worn, of_albums)

    @torch.no_grad()
    def with_worn(self, backbone: Backbone, gallery: Gallery, seed: int) -> Self:
        """With `worn` copies of a few pictures and captions of the gallery, all read here."""
        choice, draws = np.random.default_rng(seed), random.Random(seed)
        augmenter = Augmenter(backbone.processor.image_processor, gallery)
        images, texts = (sorted(choice.permutation(count)[:WORN]) for count in (len(gallery), len(self.texts)))
        differences = [self.worn]
        for start in range(0, len(images), VISION_BATCH):
            some = images[start : start + VISION_BATCH]
            copies = backbone.image_inputs([augmenter.augmented(image, draws) for image in some])
            differences.append(state_of(backbone, copies) - self.of_pictures[0, some])
        if texts:
            mistyped = [misspell(text, draws) for text, row in self.texts.items() if row in texts]
            differences.append(state_of(backbone, text_inputs(backbone, mistyped)) - self.of_texts[texts])
        return replace(self, worn=agreed(torch.cat(differences).cpu()).to(self.of_texts.device))

    def rows(self, texts: Sequence[str]) -> torch.Tensor:
        """(n,) int64: the rows of captions."""
        return torch.tensor([self.texts[text] for text in texts], dtype=torch.long, device=self.of_texts.device)


class _Kept:
    """Keeps what a process has read in a folder; without a folder, does nothing."""

    def __init__(self, folder: Path | None):
        processes = state()
        self.folder = folder and folder / f"{processes.process_index}-of-{processes.num_processes}"

    def __call__(self, name: str, read: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What has that name; it is read where it is not there."""
        if not self.folder:
            return read()
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            states = read().cpu().contiguous()
            with new_file(path) as building:
                save_file({"states": states}, building)
        return load_file(path)["states"]


def _pictures(
    backbone: Backbone,
    gallery: Gallery,
    features: Features | None,
    view: int,
    on_look: Callable[[int, int], None],
    kept: _Kept,
) -> torch.Tensor:
    """(images, state): of a view of every picture."""
    own = share(len(gallery))
    states = []
    together = READ_TOGETHER if backbone.has_joint_space else VISION_BATCH
    for start in range(0, len(own), together):
        images = own[start : start + together]

        def read(images: np.ndarray = images) -> torch.Tensor:
            if features:
                return state_of(backbone, backbone.feature_inputs(features.read(images, [view] * len(images))))
            return state_of(backbone, backbone.image_inputs([gallery.open(int(image)) for image in images]))

        states.append(kept(f"pictures-{view}-{start}", read).to(backbone.device))
        if not features:
            on_look(min(len(gallery), (start + len(images)) * len(gallery) // len(own)), len(gallery))
    return gathered(torch.cat(states), len(gallery))


def _albums(backbone: Backbone, gallery: Gallery) -> torch.Tensor:
    """As `States.of_albums`."""
    words = [album_words(album) for album in gallery.albums]
    states = torch.zeros(len(gallery), backbone.state_size, device=backbone.device)
    for text in dict.fromkeys(filter(None, words)) if backbone.has_joint_space else ():
        images = [image for image, own in enumerate(words) if own == text]
        states[images] = state_of(backbone, text_inputs(backbone, [text]))
    return states


@torch.no_grad()
def states_of_texts(backbone: Backbone, texts: list[str]) -> torch.Tensor:
    """(texts, state) float32, on the backbone's device."""
    starts = range(0, len(texts), READ_TOGETHER)
    return torch.cat([state_of(backbone, text_inputs(backbone, texts[at : at + READ_TOGETHER])) for at in starts])


def state_of(backbone: Backbone, inputs: dict[str, Any]) -> torch.Tensor:
    """(b, state) float32: the state behind each prompt."""
    shared = backbone.with_shared_prefix(inputs)
    if shared is not inputs:  # what pads the rest stands behind the prefix and has no places
        places = shared["attention_mask"].cumsum(1) - 1
        shared["position_ids"] = places[:, -shared["input_ids"].shape[1] :]
    return backbone.hidden(**shared, last=1)[0][:, -1].float()
