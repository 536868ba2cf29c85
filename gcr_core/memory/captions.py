"""Captions of a memory's images, given anew after it was trained.

An image whose identifier is a token of its own then has its row solved for as that of a new image, as if it had been
forgotten and added with these captions: it answers to them at once, and no longer to those that were wrong. Others,
and all where many change together, answer to them once the memory is consolidated.
"""

from gcr_core.data.metadata import checked_captions
from gcr_core.errors import InputError
from gcr_core.memory.incremental import NewImage, solve_row
from gcr_core.memory.memory import Memory
from gcr_core.retrieval.trie import IdentifierTrie

MOVED_AT_ONCE = 16
"""The most images that get new rows when their captions change together: each takes about as long as one added."""


def recaption(memory: Memory, captions: dict[str, list[str]]) -> int:
    """Gives images, by any of their names, these captions in the place of those that they have.

    Returns how many of them answer to theirs no sooner than the memory is consolidated. Raises GalleryError for a name
    that there is not, InputError for captions that metadata could not hold.
    """
    with memory._lock:
        given = {memory.gallery.index(name): _checked(name, texts) for name, texts in captions.items()}
        changed = {image: texts for image, texts in given.items() if texts != memory.gallery.captions[image]}
        trained = memory._trained
        for image, texts in changed.items():
            before, gallery = memory.gallery.captions[image], memory.gallery
            gallery.captions[image] = texts
            gallery.pseudo_queries[image] = [text for text in gallery.pseudo_queries[image] if text in texts]
            if image < trained:
                new, gone = len(set(texts) - set(before)), len(set(before) - set(texts))
                memory._note(captions=max(new, gone))
        moved = sum(_move(memory, image) for image in changed) if len(changed) <= MOVED_AT_ONCE else 0
        memory._take(memory.identifiers, memory.gallery)
        return len(changed) - moved


def _checked(name: str, captions: list[str]) -> list[str]:
    try:
        return checked_captions(captions)
    except ValueError as error:
        raise InputError(f"{name} {error}") from error


def _move(memory: Memory, image: int) -> bool:
    """Has both engines find an image by the captions that it has now, where its picture is there; whether both do."""
    gallery, identifiers, backbone = memory.gallery, memory.identifiers, memory.backbone
    tokens = identifiers.sequence(image).tolist()
    if not gallery.has_picture(image):
        return False
    picture, texts = gallery.open(image), gallery.captions[image]
    if memory.dense.caption is not None:
        memory.dense.replace([image], memory.dense.fused(memory.dense.embed_images([picture]), [texts]))
    if len(gallery) == 1 or len(tokens) > 1 or tokens[0] < identifiers.vocabulary:
        return False
    others = identifiers.without([image])
    known, new = memory._rehearse().but([image]), NewImage.read(backbone, picture, texts)
    row = solve_row(backbone, IdentifierTrie.build(others.indptr, others.tokens), new, known)
    backbone.set_rows(tokens, row[None])
    memory._known = known.extended(new, row, image)
    return True
