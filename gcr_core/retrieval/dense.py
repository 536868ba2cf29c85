"""Dense index, the dense baseline: CLIP vectors of a gallery's images in FAISS. SigLIP counts as a CLIP.

CLIP is not trained. An image's vector is the sum of what CLIP makes of its picture and of its captions, so that both
count for a query. Vectors are float32 and of length one, so scores are cosines. The search is exact up to EXACT_IMAGES
images; beyond, an inverted file (IVF) reads the cells nearest to a query, as many as it takes to find what the exact
search finds. Knows galleries, not memories.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm

from gcr_core.data.gallery import Gallery
from gcr_core.data.stems import album_words
from gcr_core.errors import HubError, MemoryFormatError
from gcr_core.files.layout import CLIP_FILE
from gcr_core.files.origin import Origin
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
COMPARED = 1_000
"""How many images, evenly over the gallery, say how like a query is to any."""
ALBUM = 0.02
"""How long the vector of an album's name is in that of an image without captions, whose picture's is 1."""
CAPTIONS_FILE = "captions.safetensors"
"""Beside the index where captions count in it."""


class DenseIndex:
    """CLIP (`model`, `processor`) and an inner-product index over n image vectors (n, d)."""

    def __init__(self, model: Any, processor: Any, index: faiss.Index, caption: np.ndarray | None = None) -> None:
        """`caption`: the mean vector (d,) of the gallery's captions, length one, which stands in for those of an image
        without any; None where the index is of pictures alone."""
        self.model, self.processor, self.index, self.caption = model, processor, index, caption
        self._lock = threading.Lock()
        self._sampled: tuple[faiss.Index, np.ndarray, np.ndarray] | None = None

    @classmethod
    def build(cls, gallery: Gallery, clip: str | Path | tuple[Any, Any], device: str | None = None) -> "DenseIndex":
        """The index of a gallery's images and captions under a CLIP. Takes and raises what `Embeddings.read` does."""
        return Embeddings.shown(gallery, clip, device).index(gallery.captions, gallery.albums)

    @property
    def vectors(self) -> np.ndarray:
        """The image vectors (n, d), float32."""
        return self.index.reconstruct_n(0, self.index.ntotal)

    @property
    def _compared(self) -> tuple[np.ndarray, np.ndarray]:
        """(k,) and (k, d): at most COMPARED images, evenly over all, and their vectors."""
        images = _sample(np.arange(self.index.ntotal), COMPARED)
        if self._sampled is None or self._sampled[0] is not self.index or len(self._sampled[1]) != len(images):
            self._sampled = self.index, images, self.vectors[images]
        return self._sampled[1:]

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

    def around(
        self, vectors: np.ndarray, without: Sequence[Collection[int]] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n,) and (n,): mean and standard deviation of the cosines of vectors (n, d) and COMPARED images, `without`
        some images for each; NaN where no other is left."""
        images, compared = self._compared
        # Not NumPy's product, whose threads go on spinning when it is done: the next reading took ten times as long.
        cosines = (torch.from_numpy(vectors) @ torch.from_numpy(compared).T).double().numpy()
        for row, gone in zip(cosines, without or (), strict=False):
            row[np.isin(images, list(gone))] = np.nan
        counts = np.isfinite(cosines).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.nansum(cosines, 1) / counts
            spread = np.sqrt(np.nansum((cosines - mean[:, None]) ** 2, 1) / counts)
        return mean, spread

    def cosines(self, vector: np.ndarray, images: np.ndarray) -> np.ndarray:
        """(k,) float64: those of a vector (d,) and images (k,), all different; 0 where a vector is no number."""
        found = dict(self.nearest(vector[None], len(images), images.tolist())[0]) if len(images) else {}
        return np.array([found.get(image, 0.0) for image in images.tolist()], np.float64)

    def fused(self, images: np.ndarray, captions: list[list[str]]) -> np.ndarray:
        """Vectors (m, d) as this index holds them, of images by their own (m, d) and by their captions."""
        if self.caption is None:
            return images
        return _unit(images + [_unit(self.embed_texts(texts).sum(0)) if texts else self.caption for texts in captions])

    def add(self, vectors: np.ndarray) -> None:
        """Takes in images behind the others, by their vectors (m, d) as `fused` makes them."""
        if isinstance(self.index, faiss.IndexIVF):
            self.index.add(vectors)
        else:
            self.index = _make_index(np.concatenate([self.vectors, vectors]))

    def replace(self, images: list[int], vectors: np.ndarray) -> None:
        """Gives images other vectors (m, d), as `fused` makes them."""
        all_vectors = self.vectors
        all_vectors[images] = vectors
        self.index = _make_index(all_vectors)

    def remove(self, images: Iterable[int]) -> None:
        """Drops images and their vectors; those behind them move up."""
        gone = np.unique(np.array(list(images), np.int64))
        if isinstance(self.index, faiss.IndexIVF) and self.index.ntotal - len(gone) > EXACT_IMAGES:
            self.index = _without(self.index, gone)
        else:
            self.index = _make_index(np.delete(self.vectors, gone, axis=0))

    def insert(self, places: list[int], vectors: np.ndarray) -> None:
        """Takes in images by their vectors (m, d), which are at these `places` then; those behind them move down."""
        stayed = np.setdiff1d(np.arange(self.index.ntotal + len(places)), places)
        if isinstance(self.index, faiss.IndexIVF):
            index = _numbered(faiss.clone_index(self.index), lambda numbers: stayed[numbers])
            index.add_with_ids(np.ascontiguousarray(vectors, np.float32), np.array(places, np.int64))
            self.index = index
            return
        whole = np.empty((len(stayed) + len(places), self.index.d), np.float32)
        whole[stayed], whole[places] = self.vectors, vectors
        self.index = _make_index(whole)

    def save(self, folder: str | Path) -> None:
        """Writes the index into a folder, and its CLIP: `clip.json` where others can have it, else a copy, `clip/`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(self.index, str(folder / "index.faiss"))
        if self.caption is not None:
            save_file({"mean": self.caption}, folder / CAPTIONS_FILE)
        if origin := getattr(self.model, "origin", None):
            origin.write(_clip_file(folder))
        else:
            self.model.save_pretrained(folder / "clip")
            self.processor.save_pretrained(folder / "clip")

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> "DenseIndex":
        """What `save` wrote. Raises MemoryFormatError for a folder without it, HubError where its CLIP is not had."""
        path = Path(folder) / "index.faiss"
        if not path.is_file():
            raise MemoryFormatError(f"{folder} has no index.faiss: save the memory anew")
        check_index(path)
        model, processor = _clip(Path(folder), device)
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise MemoryFormatError(f"{path} is damaged: save the memory anew") from error
        if index.d != dimensions(model):
            raise MemoryFormatError(
                f"{path} holds vectors of {index.d} numbers, its CLIP makes {dimensions(model)}: save the memory anew"
            )
        return cls(model, processor, index, _mean_caption(Path(folder) / CAPTIONS_FILE, index.d))

    @torch.inference_mode()
    def _embed(self, batches: Iterator[torch.Tensor]) -> np.ndarray:
        with self._lock:
            vectors = [batch.float().cpu().numpy() for batch in batches]
        return np.concatenate(vectors) if vectors else np.zeros((0, dimensions(self.model)), np.float32)

    def nearest(self, vectors: np.ndarray, top: int, among: list[int] | None = None) -> list[list[tuple[int, float]]]:
        """For each vector (n, d) its `top` images as (index, cosine), best first; only images `among` where given."""
        index: Any = self.index
        top = min(top, index.ntotal if among is None else len(among))
        if among is not None:
            chosen = faiss.IDSelectorBatch(np.array(among, np.int64))
            scores, images = index.search(vectors, top, params=_all_cells(index, sel=chosen))
        else:
            scores, images = index.search(vectors, top)
            if (images < 0).any():  # The cells that were read hold fewer images than were asked for.
                scores, images = index.search(vectors, top, params=_all_cells(index))
        return [
            [(int(image), float(score)) for image, score in zip(*row, strict=True)]
            for row in zip(images, scores, strict=True)
        ]


class Embeddings:
    """The CLIP vectors of a gallery's images and captions, each embedded once: what its indexes are made of."""

    def __init__(self, clip: tuple[Any, Any], images: np.ndarray, texts: Iterable[str], captions: np.ndarray) -> None:
        """`clip`: (model, processor); `images` (n, d) and `captions` (m, d): vectors of the pictures alone, and of
        `texts`, of any length."""
        self._clip = clip
        self._rows = {text: row for row, text in enumerate(texts)}
        self.images, self._captions = _unit(images), _unit(captions)

    @classmethod
    def read(
        cls,
        gallery: Gallery,
        clip: str | Path | tuple[Any, Any],
        device: str | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> "Embeddings":
        """`clip`: a folder, a hub id, or (model, processor).

        Of several processes each embeds a share, and all get the whole. `on_progress(done, total)` counts this
        process's images and captions; its exception stops the work. Raises HubError for a CLIP that cannot be had,
        InputError for an image that cannot be opened.
        """
        model, processor = clip if isinstance(clip, tuple) else load_clip(clip, device)
        tower = DenseIndex(model, processor, faiss.IndexFlatIP(dimensions(model)))
        # Texts of about one length need little padding in a batch.
        texts = sorted(dict.fromkeys(text for texts in gallery.captions for text in texts), key=len)
        own_images, own_texts = share(len(gallery)), share(len(texts))
        total = len(own_images) + len(own_texts)

        def told(items: Iterable[Any], done: int) -> Iterator[Any]:
            for number, item in enumerate(items):
                if number % BATCH == 0:
                    on_progress(done + number, total)
                yield item

        own = tower.embed_images(told(map(gallery.open, own_images), 0))
        own_captions = tower.embed_texts(told((texts[row] for row in own_texts), len(own_images)))
        on_progress(total, total)
        images = gathered(torch.from_numpy(own), len(gallery)).numpy()
        captions = gathered(torch.from_numpy(own_captions), len(texts)).numpy()
        return cls((model, processor), images, texts, captions)

    @classmethod
    def shown(cls, gallery: Gallery, clip: str | Path | tuple[Any, Any], device: str | None = None) -> "Embeddings":
        """As `read`, with a progress bar on stderr when that is a terminal."""
        with tqdm(desc="CLIP vectors", disable=None if is_first() else True, leave=False) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            return cls.read(gallery, clip, device, show)

    def captions(self, texts: Iterable[str]) -> np.ndarray:
        """(m, d): of captions of the gallery."""
        return self._captions[[self._rows[text] for text in texts]]

    def index(self, captions: list[list[str]], albums: list[str] | None = None) -> DenseIndex:
        """The index of all images with these of their captions, and the names of the albums that they are in.

        In the place of the captions of an image without any stands the mean of all captions: texts are more like texts
        than like pictures. Without any caption the index is of pictures alone, and of a little of their albums' names.
        """
        counts = [len(texts) for texts in captions]
        mean, given = None, zip(albums or [""] * len(counts), counts, strict=True)
        vectors = self._in_albums(["" if count else album for album, count in given])
        if any(counts):
            sums = np.zeros_like(vectors)
            own = self.captions(text for texts in captions for text in texts)
            np.add.at(sums, np.repeat(np.arange(len(counts)), counts), own)
            mean = _unit(own.sum(0))
            sums[np.equal(counts, 0)] = mean
            vectors = _unit(vectors + _unit(sums))
        index = _make_index(vectors, _sample(self._captions))
        return DenseIndex(*self._clip, index, mean)

    def _in_albums(self, albums: list[str]) -> np.ndarray:
        """(n, d): the pictures' vectors, each with a little of the words in the name of its album, "" for none."""
        words = list(map(album_words, albums))
        if not (names := list(dict.fromkeys(filter(None, words)))):
            return self.images
        said = DenseIndex(*self._clip, faiss.IndexFlatIP(self.images.shape[1])).embed_texts(names)
        vectors = self.images.copy()
        named = [image for image, own in enumerate(words) if own]
        vectors[named] = _unit(vectors[named] + ALBUM * said[[names.index(words[image]) for image in named]])
        return vectors


def _all_cells(index: Any, **more: Any) -> Any:
    """How to search an index so that it misses no vector, whatever kind it is of."""
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(**({"nprobe": index.nlist} | more))
    return faiss.SearchParameters(**more)


def _clip(folder: Path, device: str | None) -> tuple[Any, Any]:
    """The CLIP of an index's folder, a copy there or the one that it names."""
    file = _clip_file(folder)
    if not file.is_file():
        return load_clip(folder / "clip", device)
    origin = Origin.read(file)
    try:
        model, processor = load_clip(origin.name, device, origin.revision)
    except HubError as error:
        raise HubError(
            f"the index {str(folder)!r} needs its CLIP {origin}, which cannot be had: connect to the hub, or write the "
            f"folder that holds it as name into {file}"
        ) from error
    if model.origin not in (None, origin):
        raise MemoryFormatError(
            f"{str(folder)!r} is the index of another {origin.name} than the one here: use the gcr_core that wrote it, "
            "or memorise the gallery anew"
        )
    return model, processor


def _clip_file(folder: Path) -> Path:
    return folder / Path(CLIP_FILE).name


def _mean_caption(path: Path, d: int) -> np.ndarray | None:
    """The mean of the captions that an index was made with (d,); None for one of pictures alone."""
    if not path.is_file():
        return None
    try:
        mean = load_file(path)["mean"]
    except (OSError, SafetensorError, KeyError) as error:
        raise MemoryFormatError(f"{path} holds no mean of captions ({error}): save the memory anew") from None
    if mean.shape != (d,) or mean.dtype != np.float32:
        raise MemoryFormatError(f"{path} holds {mean.dtype} {mean.shape}, not {d} numbers: save the memory anew")
    return mean


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., d) at length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-12)


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
    return _numbered(index, lambda numbers: numbers - np.searchsorted(gone, numbers))


def _numbered(index: Any, renumber: Callable[[np.ndarray], np.ndarray]) -> Any:
    """The index itself, with other numbers of its vectors."""
    for cell in range(index.nlist):
        if size := index.invlists.list_size(cell):
            numbers = faiss.rev_swig_ptr(index.invlists.get_ids(cell), size)
            numbers[:] = renumber(numbers)
    return index


def _sample(items: Any, size: int = IVF_QUERIES) -> Any:
    """At most `size` of the items, evenly over all of them."""
    return items[:: -(-len(items) // size)] if len(items) > size else items


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
