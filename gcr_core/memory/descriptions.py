"""Descriptions: what a memory says of its images, from their identifiers alone.

A backbone that generates text says a caption. gcr-mini does not: of an image that had captions it says the caption that
recalls the identifier most surely, log p(identifier | caption) being highest, among those of the images whose rows are
most like this one's; of another image it has tags for what it takes the picture for.
"""

from itertools import chain
from threading import Lock

import torch
from torch.nn.functional import normalize

from gcr_core.data.gallery import Gallery
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.beam_search import code_logits
from gcr_core.retrieval.describe import describe
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.training.states import states_of_texts

ALIKE = 4
"""Of how many images beside itself, whose rows are most like its own, a caption may be said."""
MOST_CAPTIONS = 8
"""From how many captions of each of these."""


class Descriptions:
    """Of one memory as it is: one that has changed takes another."""

    def __init__(self, backbone: Backbone, identifiers: Identifiers, gallery: Gallery, lock: Lock) -> None:
        """`lock`: held while the backbone reads."""
        self._backbone, self._identifiers, self._gallery, self._lock = backbone, identifiers, gallery, lock
        self._surest: dict[int, str] = {}

    def of(self, file_names: list[str]) -> list[str]:
        """Of images, "" of one that nothing is known to say of. Raises GalleryError for an unknown name."""
        with self._lock:
            images = [self._gallery.index(name) for name in file_names]
            captioned = [bool(self._gallery.captions[image]) and self._says_captions for image in images]
            others = [image for image, has in zip(images, captioned, strict=True) if not has]
            told = iter(describe(self._backbone, [self._identifiers.sequence(image).tolist() for image in others]))
            new = [image for image, has in zip(images, captioned, strict=True) if has and image not in self._surest]
            if new:
                self._surest |= zip(new, self._surest_captions(new), strict=True)
            return [self._surest[image] if has else next(told) for image, has in zip(images, captioned, strict=True)]

    @property
    def _says_captions(self) -> bool:
        return self._backbone.has_joint_space and self._identifiers.type == "atomic"

    @torch.inference_mode()
    def _surest_captions(self, images: list[int]) -> list[str]:
        tokens = [self._identifiers.sequence(image)[0] for image in range(len(self._gallery))]
        codes = torch.tensor(tokens, dtype=torch.long, device=self._backbone.device)
        rows = normalize(self._backbone.head_rows(codes)[0], dim=-1)
        alike = (rows[images] @ rows.T).topk(min(ALIKE, len(rows))).indices.tolist()
        captions = [
            [text for other in (image, *others) for text in self._gallery.captions[other][:MOST_CAPTIONS]]
            for image, others in zip(images, alike, strict=True)  # itself in any case: rows from elsewhere may be zero
        ]
        read = list(dict.fromkeys(chain(*captions)))
        log_p = code_logits(self._backbone, states_of_texts(self._backbone, read), codes).log_softmax(-1)
        sure = dict(zip(read, log_p[:, images].tolist(), strict=True))
        return [max(texts, key=lambda text: sure[text][place]) for place, texts in enumerate(captions)]
