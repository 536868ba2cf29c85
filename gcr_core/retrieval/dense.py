"""Dense index, the dense baseline: CLIP vectors of a gallery's images in FAISS. SigLIP counts as a CLIP.

Vectors are float32 and of length one, so scores are cosines. The search is exact up to EXACT_IMAGES images; beyond,
an inverted file (IVF) reads the cells nearest to a query, as many as it takes to find what the exact search finds.
Knows galleries, not memories.
"""

import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from gcr_core.data.gallery import Gallery
from gcr_core.errors import MemoryFormatError
from gcr_core.models.clip import dimensions, image_features, load_clip, text_features
from gcr_core.models.distributed import gathered, is_first, share
from gcr_core.retrieval.faiss_file import check_index

EXACT_IMAGES = 100_000
"""The most images that are searched exactly."""
CELLS_A_ROOT = 4
"""The number of the inverted file's cells, as a multiple of the square root of the images."""
SAMPLE_A_CELL = 64
"""How many vectors the cells are trained on, for each cell."""
IVF_RECALL, IVF_DEPTH = 0.98, 100
"""The share of the exact search's first IVF_DEPTH images that an inverted file must find."""
IVF_QUERIES = 256
"""How many captions, or images where there are none, that share is measured with."""
BATCH = 64
"""How many pictures or texts CLIP embeds together."""


class DenseIndex:
    """CLIP (`model`, `processor`) and an inner-product index over n image vectors (n, d)."""

    def __init__(self, model: Any, processor: Any, index: faiss.Index) -> None:
        self.model, self.processor, self.index = model, processor, index
        self._lock = threading.Lock()

    @classmethod
    def build(cls, gallery: Gallery, clip: str | Path | tuple[Any, Any], device: str | None = None) -> "DenseIndex":
        """The index of a gallery's images under a CLIP: a folder, a hub id, or (model, processor).

        Of several processes each embeds a share of the images, and all get the whole index. Raises HubError for a CLIP
        that cannot be had, InputError for an image that cannot be opened.
        """
        model, processor = clip if isinstance(clip, tuple) else load_clip(clip, device)
        dense = cls(model, processor, faiss.IndexFlatIP(dimensions(model)))
        own = share(len(gallery))
        images = (gallery.open(image) for image in own)
        shown = tqdm(images, "CLIP vectors", len(own), disable=None if is_first() else True, leave=False)
        vectors = gathered(torch.from_numpy(dense.embed_images(shown)), len(gallery)).numpy()
        texts = [texts[0] for texts in gallery.captions if texts] if len(gallery) > EXACT_IMAGES else []
        return cls(model, processor, _make_index(vectors, dense.embed_texts(_sample(texts))))

    @property
    def vectors(self) -> np.ndarray:
        """The image vectors (n, d), float32."""
        return self.index.reconstruct_n(0, self.index.ntotal)

    def embed_images(self, images: Iterable[Image.Image]) -> np.ndarray:
        """CLIP vectors (n, d) of pictures, float32, length one; `images` may be a generator."""
        return self._embed(image_features(self.model, self.processor, batch) for batch in _batches(images))

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        """CLIP vectors (n, d) of texts, float32, length one; a long text is cut to the tower's length."""
        return self._embed(text_features(self.model, self.processor, batch) for batch in _batches(texts))

    def search(self, queries: list[str], top: int) -> list[list[tuple[int, float]]]:
        """For each text its `top` images as (index, cosine), best first."""
        return self.nearest(self.embed_texts(queries), top)

    def search_images(self, images: list[Image.Image], top: int) -> list[list[tuple[int, float]]]:
        """For each picture its `top` images as (index, cosine), best first."""
        return self.nearest(self.embed_images(images), top)

    def add(self, vectors: np.ndarray) -> None:
        """Takes in images behind the others, by their vectors (m, d) as `embed_images` makes them."""
        if isinstance(self.index, faiss.IndexIVF):
            self.index.add(vectors)
        else:
            self.index = _make_index(np.concatenate([self.vectors, vectors]))

    def remove(self, images: Iterable[int]) -> None:
        """Drops images and their vectors; those behind them move up."""
        gone = np.unique(np.array(list(images), np.int64))
        if isinstance(self.index, faiss.IndexIVF) and self.index.ntotal - len(gone) > EXACT_IMAGES:
            self.index = _without(self.index, gone)
        else:
            self.index = _make_index(np.delete(self.vectors, gone, axis=0))

    def save(self, folder: str | Path) -> None:
        """Writes `index.faiss` and `clip/` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(self.index, str(folder / "index.faiss"))
        self.model.save_pretrained(folder / "clip")
        self.processor.save_pretrained(folder / "clip")

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> "DenseIndex":
        """What `save` wrote. Raises MemoryFormatError for a folder without it."""
        path = Path(folder) / "index.faiss"
        if not path.is_file():
            raise MemoryFormatError(f"{folder} has no index.faiss: save the memory anew")
        check_index(path)
        model, processor = load_clip(Path(folder) / "clip", device)
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise MemoryFormatError(f"{path} is damaged: save the memory anew") from error
        if index.d != dimensions(model):
            raise MemoryFormatError(
                f"{path} holds vectors of {index.d} numbers, its CLIP makes {dimensions(model)}: save the memory anew"
            )
        return cls(model, processor, index)

    @torch.inference_mode()
    def _embed(self, batches: Iterator[torch.Tensor]) -> np.ndarray:
        with self._lock:
            vectors = [batch.float().cpu().numpy() for batch in batches]
        return np.concatenate(vectors) if vectors else np.zeros((0, dimensions(self.model)), np.float32)

    def nearest(self, vectors: np.ndarray, top: int) -> list[list[tuple[int, float]]]:
        """For each vector (n, d) its `top` images as (index, cosine), best first."""
        index: Any = self.index
        top = min(top, index.ntotal)
        scores, images = index.search(vectors, top)
        if (images < 0).any():  # The cells that were read hold fewer images than were asked for: read all.
            params: Any = {"nprobe": index.nlist}
            scores, images = index.search(vectors, top, params=faiss.SearchParametersIVF(**params))
        return [
            [(int(image), float(score)) for image, score in zip(*row, strict=True)]
            for row in zip(images, scores, strict=True)
        ]


def _make_index(vectors: np.ndarray, queries: np.ndarray | None = None) -> faiss.Index:
    """The index of vectors (n, d); an inverted file reads as many cells as `queries` (m, d) need."""
    count, d = vectors.shape
    vectors = np.ascontiguousarray(vectors, np.float32)
    index: Any = faiss.IndexFlatIP(d)
    if count > EXACT_IMAGES:
        cells = round(CELLS_A_ROOT * count**0.5)
        index = faiss.IndexIVFFlat(index, d, cells, faiss.METRIC_INNER_PRODUCT)
        index.train(_sample(vectors, SAMPLE_A_CELL * cells))
    index.add(vectors)
    if count > EXACT_IMAGES:
        _widen(index, vectors, _sample(vectors) if queries is None or not len(queries) else queries)
    return index


def _widen(index: faiss.IndexIVF, vectors: np.ndarray, queries: np.ndarray) -> None:
    """Lets the index read twice as many cells until it finds RECALL of what the exact search finds for the queries."""
    depth = min(IVF_DEPTH, len(vectors))
    _, exact = faiss.knn(queries, vectors, depth, metric=faiss.METRIC_INNER_PRODUCT)
    for power in range(index.nlist.bit_length() + 1):
        index.nprobe = min(2**power, index.nlist)
        _, found = index.search(queries, depth)
        if np.mean([np.isin(*row).mean() for row in zip(exact, found, strict=True)]) >= IVF_RECALL:
            break


def _without(index: Any, gone: np.ndarray) -> faiss.IndexIVF:
    """The same cells without some vectors; FAISS leaves the numbers of the others, here they move up."""
    index = faiss.clone_index(index)
    index.remove_ids(gone)
    for cell in range(index.nlist):
        if size := index.invlists.list_size(cell):
            numbers = faiss.rev_swig_ptr(index.invlists.get_ids(cell), size)
            numbers -= np.searchsorted(gone, numbers)
    return index


def _sample(items: Any, size: int = IVF_QUERIES) -> Any:
    """At most `size` of the items, evenly over all of them."""
    return items[:: -(-len(items) // size)] if len(items) > size else items


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
