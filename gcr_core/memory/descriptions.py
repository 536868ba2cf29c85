"""Descriptions: what a memory says of its images, from their identifiers alone.

A backbone that generates text says a caption. gcr-mini does not: of an image that had captions it says the caption that
recalls the identifier most surely, log p(identifier | caption) being highest, among those of the images whose rows are
most like this one's; of another image it has tags for what it takes the picture for.
"""

from threading import Lock

import torch
from torch.nn.functional import normalize

from gcr_core.data.gallery import Gallery
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.beam_search import code_logits
from gcr_core.retrieval.describe import describe
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.training.states import states_of_texts

ALIKE = 8
"""Of how many images, itself among them, a caption may be said."""
MOST_CAPTIONS = 64
"""From how many captions one is chosen."""


class Descriptions:
    """Of one memory as it is: one that has changed takes another."""

    def __init__(self, backbone: Backbone, identifiers: Identifiers, gallery: Gallery, lock: Lock) -> None:
        """`lock`: held while the backbone reads."""
        self._backbone, self._identifiers, self._gallery, self._lock = backbone, identifiers, gallery, lock

    def of(self, file_names: list[str]) -> list[str]:
        """Of images, "" of one that nothing is known to say of. Raises GalleryError for an unknown name."""
        with self._lock:
            images = [self._gallery.index(name) for name in file_names]
            said = describe(self._backbone, [self._identifiers.sequence(image).tolist() for image in images])
        if self._backbone.has_joint_space and self._identifiers.type == "atomic":
            for place, image in enumerate(images):
                if self._gallery.captions[image]:
                    said[place] = self._surest_caption(image)
        return said

    @torch.inference_mode()
    def _surest_caption(self, image: int) -> str:
        tokens = [self._identifiers.sequence(other)[0] for other in range(len(self._gallery))]
        codes = torch.tensor(tokens, dtype=torch.long, device=self._backbone.device)
        with self._lock:
            rows = normalize(self._backbone.head_rows(codes)[0], dim=-1)
            alike = (rows @ rows[image]).topk(min(ALIKE, len(rows))).indices.tolist()
            captions = list(dict.fromkeys(text for other in alike for text in self._gallery.captions[other]))
            states = states_of_texts(self._backbone, captions[:MOST_CAPTIONS])
            surest = code_logits(self._backbone, states, codes).log_softmax(-1)[:, image].argmax()
        return captions[int(surest)]
