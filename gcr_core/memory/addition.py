"""Addition: a picture that a memory takes in after it was trained, recallable at once; nothing is trained."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gcr_core.data.images import fingerprint, open_image, shrink
from gcr_core.data.metadata import MAX_CAPTIONS
from gcr_core.data.pictures import MODEL_SIDE, thumbnail_of
from gcr_core.memory.incremental import NewImage, solve_row
from gcr_core.settings import Settings

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory

LIKENESSES = 10
"""How many of a new picture's nearest images may be the same one: their vectors are of their captions too."""


def add_picture(memory: "Memory", file_name: str, picture: Image.Image, captions: list[str]) -> str:
    """Adds a picture to a memory whose lock is held; returns the name that it is stored under.

    The captions of one that the gallery has already go to the image that is there.
    """
    known = memory._rehearse()
    vectors = memory.dense.embed_images([picture])
    twin = _twin(memory, picture, vectors)
    if twin is not None:
        before = memory.gallery.captions[twin]
        texts = list(dict.fromkeys(before + captions))[:MAX_CAPTIONS]
        memory.gallery.captions[twin] = texts
        memory._take(memory.identifiers, memory.gallery)
        if twin < memory._trained:
            memory._note(captions=len(texts) - len(before))
        return memory.gallery.file_names[twin]
    new = NewImage.read(memory.backbone, picture, captions)
    row = solve_row(memory.backbone, memory.trie, new, known)
    identifiers = memory.identifiers.extended(1)
    longest = Settings.from_env().max_picture_side
    gallery = memory.gallery.with_pictures([(file_name, picture)], [captions], longest)
    memory.backbone.add_tokens(identifiers.new_tokens)
    memory.backbone.set_rows(identifiers.sequence(len(memory.gallery)).tolist(), row[None])
    memory.dense.add(memory.dense.fused(vectors, [captions]))
    memory._known = known.extended(new, row, len(memory.gallery))
    memory._take(identifiers, gallery)
    memory._note(added=1)
    return gallery.file_names[-1]


def _twin(memory: "Memory", picture: Image.Image, vectors: np.ndarray) -> int | None:
    """The image that has the same pixels once both are thumbnails, where its picture is here."""
    own: dict[str, set[bytes]] = {}
    shown = picture.copy()
    shrink(shown, MODEL_SIDE)
    for image, _ in memory.dense.nearest(vectors, LIKENESSES)[0]:
        if memory.gallery.has_picture(image):
            kind = Path(name := memory.gallery.file_names[image]).suffix
            own[kind] = own.get(kind) or set(map(fingerprint, (shown, open_image(thumbnail_of(picture, name)))))
            if fingerprint(memory.gallery.open(image)) in own[kind]:
                return image
    return None
