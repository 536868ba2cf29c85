"""Build: from a gallery and a recipe to a folder that `Memory.from_pretrained` loads.

What is frozen reads the gallery, the dense baseline gets its captions, then the backbone memorises: both the same ones.
Of images with several captions a few are held out until both have been measured with them; then the dense baseline gets
them too, and the last steps train on them. Every stage can be interrupted; training goes on from its checkpoint. Of
several processes the first one writes. Knows nothing about jobs or pages.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from gcr_core.data.gallery import Gallery
from gcr_core.files.atomic import new_folder, sweep
from gcr_core.files.hub import fetch
from gcr_core.memory import calibration, measures
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone
from gcr_core.models.clip import load_clip
from gcr_core.models.distributed import agreed, is_first, mapped, state
from gcr_core.models.inspection import has_joint_space, has_other_eyes, is_small, shares_weights
from gcr_core.models.tags import Tagger
from gcr_core.retrieval.dense import DenseIndex, Embeddings
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.rerank import Rerank
from gcr_core.training.batches import Pairs
from gcr_core.training.config import Recipe, Step, plan, plan_tuning
from gcr_core.training.estimate import seconds_a_step
from gcr_core.training.everyday import absent_phrases, bank
from gcr_core.training.features import FeatureCache, Features
from gcr_core.training.preflight import HELD_OUT_CHEAPLY, HELD_OUT_FEWEST, HELD_OUT_ODDS, hold_out, remarks, unmeasured
from gcr_core.training.progress import Clock, Listener, Notes, Progress
from gcr_core.training.pseudo_queries import without_tags
from gcr_core.training.rows import begin_rows, likeliest, memorize_rows
from gcr_core.training.solve import memorize_solved, solve_rows
from gcr_core.training.spread import Spread
from gcr_core.training.states import States, states_of_texts
from gcr_core.training.train import memorize, start_rows


def make_memory(
    gallery: Gallery, recipe: Recipe, out: str | Path, on_progress: Listener, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Memorises a gallery and saves the memory at `out`; returns the report, which is its `facts["training"]`.

    The report: "images", "captions", "pseudo_queries" (those of them that the model wrote), "phrases" (everyday ones
    that the dense baseline's CLIP answered for images without captions), "seconds" (of memorising),
    "dense_seconds" (of building the dense index), "memorized" (share recalled at rank 1 from their own picture),
    "trained_captions" (share of people's captions with an image of theirs at rank 1; None where there is none),
    "trained_pseudo_queries" (the same of the model's), "asked" (of how many different captions each of the two is a
    share), "held_out" (people's captions held out until the engines were measured with them), "retrieved" (share of
    those at rank 1; None where there is none), "dense": {"memorized", "trained_captions", "trained_pseudo_queries",
    "retrieved"}, "preset", "seed", "remarks". An exception of `on_progress` stops it; called again with the same
    `checkpoint` folder, in which nothing else writes, it goes on from there. Raises GcrError.
    """
    if checkpoint and is_first():
        for folder in (checkpoint, *checkpoint.glob("*/")):
            sweep(folder, alone=True)
    build = _Build(gallery, recipe, on_progress, checkpoint)
    clip = build.load_clip()
    backbone = build.load_backbone()
    features = build.compute_features(backbone)
    states = build.read_states(backbone, features)
    dense = build.build_dense(clip, states)
    memory = build.build_memory(backbone, dense, features, states)
    features, states = build.train_backbone(memory, features, states)
    build.measure(memory, features, states)
    build.save(memory, features, states, out)
    return build.report


class _Build:
    """The stages of making a memory; each takes what those before it made, and fills in its part of the report."""

    report: dict[str, Any]
    """What `make_memory` returns; None stands for what is not known yet."""
    spread: Spread | None = None

    def __init__(self, gallery: Gallery, recipe: Recipe, on_progress: Listener, checkpoint: Path | None) -> None:
        """What is known before any model is loaded. Raises as `remarks`."""
        self.gallery, self.recipe, self.on_progress, self.checkpoint = gallery, recipe, on_progress, checkpoint
        told = [*remarks(gallery, recipe), *unmeasured(gallery)]
        small = is_small(recipe.backbone)
        self.training = plan(gallery, recipe, small, has_joint_space(recipe.backbone), has_other_eyes(recipe.clip))
        self.steps = self.training.steps
        on_progress(Progress("prepare", 0, self.steps))
        cheap = self.training.trained in ("rows", "solved")
        kept, self.held_out = hold_out(gallery, recipe.seed, HELD_OUT_CHEAPLY if cheap else HELD_OUT_FEWEST)
        self.absent = absent_phrases(text for texts in gallery.captions for text in texts)
        self.words = calibration.shared_words(gallery.captions, recipe.seed) if self.held_out else {}
        self.read_too: torch.Tensor | None = None
        self.phrases = bank(self.training.phrases)
        tagger = Tagger.from_folder(fetch(recipe.backbone, "checkpoints/gcr-mini"))
        self.captions, kept = (without_tags(texts, gallery, tagger) for texts in (gallery.captions, kept))
        self.taught = Gallery(gallery.root, gallery.file_names, kept)
        said = any(self.captions)
        self.pairs = Pairs.from_captions(self.taught.captions) if said else None
        self.last_pairs = Pairs.from_captions(self.captions).oftener(self.held_out, HELD_OUT_ODDS) if said else None
        self.notes = Notes(checkpoint if is_first() else None)
        self.clock = Clock(self.training, self.notes, on_progress, small)
        self.report = {
            "images": len(gallery),
            "captions": sum(map(len, gallery.captions)),
            "pseudo_queries": sum(map(len, gallery.pseudo_queries)),
            "phrases": self.training.phrases,
            "seconds": None,
            "dense_seconds": None,
            "memorized": None,
            "trained_captions": None,
            "trained_pseudo_queries": None,
            "asked": {key: len(set(chain(*texts))) for key, texts in measures.by_author(gallery).items()},
            "dense": None,
            "held_out": len(self.held_out),
            "retrieved": None,
            "preset": recipe.preset,
            "seed": recipe.seed,
            "remarks": told,
        }

    def load_clip(self) -> tuple[Any, Any] | None:
        """The dense baseline's CLIP; None where its index was made before an interruption."""
        folder = self._folder("dense")
        return None if folder and folder.is_dir() else load_clip(self.recipe.clip)

    def build_dense(self, clip: tuple[Any, Any] | None, states: States | None) -> DenseIndex:
        """The dense baseline, measured with the captions held out before it gets these, then with what it was given.

        Where the CLIP is the backbone with another face, its vectors are what the backbone has read and seen.
        """
        folder = self._folder("dense")
        if not clip:
            assert folder
            dense = DenseIndex.load(folder)
            self._ask_phrases(dense, lambda: dense.embed_images(map(self.gallery.open, range(len(self.gallery)))))
            return dense
        if states and shares_weights(self.recipe.clip, self.recipe.backbone):
            of_pictures, of_texts = (of[:, :-1].cpu().numpy() for of in (states.of_pictures[0], states.of_texts))
            vectors = Embeddings(clip, of_pictures, states.texts, of_texts)
            assert self.read_too is not None
            others: np.ndarray | None = normalize(self.read_too[:, :-1], dim=-1).cpu().numpy()
        else:
            vectors = Embeddings.read(self.gallery, clip, on_progress=self.clock.embedded)
            others = None
        kept, dense = (vectors.index(texts, self.gallery.albums) for texts in (self.taught.captions, self.captions))
        own = [hits[0][0] for hits in dense.nearest(vectors.images, 1)]
        self.notes["dense"] = {
            "memorized": measures.share_right(own, range(len(own))),
            **measures.shares_found(partial(measures.nearest, dense, vectors), self.gallery),
            "retrieved": measures.share_right(
                measures.nearest(kept, vectors, list(self.held_out)), self.held_out.values()
            ),
        }
        others = kept.embed_texts([*self.words, *self.absent]) if others is None else others
        self._calibrate_dense(kept, np.concatenate([vectors.captions(self.held_out), others]), self._owners)
        self._ask_phrases(dense, lambda: vectors.images)
        self.clock.indexed()
        if folder and is_first():
            with new_folder(folder) as building:
                dense.save(building)
        return dense

    def _ask_phrases(self, dense: DenseIndex, pictures: Callable[[], np.ndarray]) -> None:
        """Notes what the dense baseline's CLIP answers to everyday phrases."""
        if self.phrases:
            kept = self._folder("phrases.safetensors")
            self.spread = Spread.of(dense, self.phrases, pictures, self.gallery.bare, kept, self.clock.embedded)

    def load_backbone(self) -> Backbone:
        """The backbone; one that is not small gets its adapter, and the clock is told how long its steps will take."""
        backbone = Backbone.from_pretrained(self.recipe.backbone)
        if not backbone.is_small:
            backbone.adapt(self.recipe.seed, lora=self.training.trained == "adapter")
            # All processes take the steps that are timed together, or none does.
            noted = agreed(self.notes.get("seconds_a_step"))
            self.notes["seconds_a_step"] = noted or seconds_a_step(backbone, self.gallery, self.training)
            self.clock.expect(self.notes["seconds_a_step"])
        return backbone

    def compute_features(self, backbone: Backbone, folder: str = "features") -> Features | None:
        """What the frozen vision tower makes of the pictures, where the backbone takes that in their place."""
        if backbone.is_small or not backbone.takes_features:
            return None
        views, seed = self.training.views, self.recipe.seed
        return FeatureCache.compute(backbone, self.gallery, views, seed, self._folder(folder), self.clock.looked)

    def read_states(self, backbone: Backbone, features: Features | None) -> States | None:
        """The states of all captions and pictures, where rows are trained on them or solved for."""
        if not (self.training.trained == "rows" or self._solves):
            return None
        listeners = self.clock.read, self.clock.looked
        states = States.read(backbone, self.gallery, features, *listeners, self._folder("states"), self.phrases)
        if self._solves:
            states = states.with_worn(backbone, self.gallery, self.recipe.seed)
        self.read_too = states_of_texts(backbone, [*self.words, *self.absent])
        return states

    def build_memory(
        self, backbone: Backbone, dense: DenseIndex, features: Features | None, states: States | None
    ) -> Memory:
        """The memory as its training finds it: the identifiers' new tokens have rows, and nothing is learnt yet."""
        type, seed = self.recipe.identifiers, self.recipe.seed
        identifiers = Identifiers.build(type, self.gallery, backbone.tokenizer, dense.vectors, seed)
        if states and self._solves:
            backbone.add_tokens(identifiers.new_tokens)
            if self.training.trained == "adapter":
                solve_rows(backbone, identifiers, self.pairs, states, spread=self.spread)
        elif states:
            identifiers = identifiers.by_place(backbone.tokenizer)
            begin_rows(backbone, states, identifiers, self.taught.captions, self.spread)
        else:
            start_rows(backbone, self.taught, identifiers, features)
        facts = {
            "backbone": {"name": self.recipe.backbone, "revision": backbone.revision},
            "training": self.report,
        }
        return Memory(backbone, identifiers, self.gallery, dense, facts)

    def train_backbone(
        self, memory: Memory, features: Features | None, states: States | None
    ) -> tuple[Features | None, States | None]:
        """The backbone memorises; it is measured with the captions held out before the last steps train on them.

        Returns the features of its pictures and the states of what it was taught, where they are still its own.
        """

        def on_step(step: Step) -> None:
            if step.step == self.training.steps - self.training.finish:
                model = memory.backbone.model
                learns = model.training
                model.eval()
                if states:
                    asked = states.of_texts[states.rows(list(self.held_out))]
                    recalled = likeliest(memory.backbone, memory.trie, asked)[0].tolist()
                else:
                    recalled = mapped(partial(measures.recalled, memory), list(self.held_out))
                self.notes["retrieved"] = measures.share_right(recalled, self.held_out.values())
                self._calibrate_recall(memory, [*self.held_out, *self.words], self._owners, states)
                model.train(learns)
            self.clock.backbone(step)

        if self.training.trained == "solved":
            assert states
            taught = self.pairs, self.training, on_step, self.last_pairs
            if not memorize_solved(memory.backbone, memory.identifiers, *taught, states, self.spread):
                self._expect_adapter()
                features = self.compute_features(memory.backbone, "adapter_features")
        if self.spread and self.training.trained != "rows":
            phrases = self.spread.pairs()
            self.pairs, self.last_pairs = (Pairs.joined(some, phrases) for some in (self.pairs, self.last_pairs))
        what = memory.backbone, self.taught, memory.identifiers, self.pairs, self.training, on_step, self.last_pairs
        if self.training.trained == "rows":
            assert states
            memorize_rows(*what, self._folder("backbone"), states, self.captions, self.spread)
        elif self.training.trained != "solved":
            states = None
            memorize(*what, self._folder("backbone"), features)
        self.report |= {
            "seconds": round(self.clock.spent["backbone"], 1),
            "dense_seconds": round(self.clock.spent["dense"], 1),
            "retrieved": self.notes.get("retrieved"),
        }
        return features, states

    @property
    def _solves(self) -> bool:
        """Whether rows are solved for on frozen states, which tell identifiers of one token, before more is trained."""
        return self.training.trained in ("solved", "adapter") and self.recipe.identifiers == "atomic"

    def _expect_adapter(self) -> None:
        """An adapter is trained, from the rows on that were solved for, as these do not know the gallery."""
        self.training = plan_tuning(self.gallery, self.recipe, small=False)
        self.steps, self.notes["spent"] = self.training.steps, self.clock.spent
        self.clock = Clock(self.training, self.notes, self.on_progress, small=False)

    def measure(self, memory: Memory, features: Features | None, states: States | None) -> None:
        """The memory is asked for what it was trained on; the dense baseline was asked when it was built."""
        self.on_progress(Progress("measure", self.steps, self.steps, 0.0))
        found = measures.measured_by(states, memory) if states else measures.measured(memory, features)
        self.report |= found | {"dense": self.notes.get("dense")}
        if states and memory.backbone.tagger:
            self.report["remarks"] += measures.unknown(memory, Path(self.recipe.backbone).name)
        if not self.held_out:
            asked = calibration.likely_queries(self.gallery, memory.backbone, memory.identifiers, self.recipe.seed)
            vectors = memory.dense.embed_texts([*asked, *self.absent])
            self._calibrate_dense(memory.dense, vectors, list(asked.values()))
            self._calibrate_recall(memory, list(asked), list(asked.values()), None)
        rerank = Rerank.of(self.notes.get("rerank") or Rerank().facts()) if any(self.captions) else None
        memory.calibrate({engine: self.notes.get(f"match_{engine}") for engine in ("generative", "dense")}, rerank)

    @property
    def _owners(self) -> list[set[int]]:
        """Of the captions that were kept out, and of the words: the images that each is of."""
        return [*({image} for image in self.held_out.values()), *self.words.values()]

    def _calibrate_dense(self, dense: DenseIndex, vectors: np.ndarray, owners: list[set[int]]) -> None:
        """Notes how sure the dense baseline is, by the vectors of texts with `owners`, and of absent ones."""
        if owners:
            self.notes["match_dense"] = calibration.nearest(dense, vectors, owners)

    def _calibrate_recall(
        self, memory: Memory, asked: list[str], owners: list[set[int]], states: States | None
    ) -> None:
        """Notes how sure the memory is as it stands, and by captions held out how to rerank; by the states of texts
        where these tell all."""
        if not owners:
            return
        prompts: list[list[int]] | torch.Tensor = memory.backbone.query_prompts([*asked, *self.absent])
        if states and self.read_too is not None:
            prompts = torch.cat([states.of_texts[states.rows(list(self.held_out))], self.read_too])
        self.notes["match_generative"] = calibration.recalled(memory.backbone, memory.trie, prompts, owners)
        if self.held_out:
            known = self.held_out, self.taught.captions
            self.notes["rerank"] = calibration.reranked(memory.backbone, memory.trie, prompts, *known).facts()

    def save(self, memory: Memory, features: Features | None, states: States | None, out: str | Path) -> None:
        """The first process writes the memory, and all wait for it."""
        self.on_progress(Progress("save", self.steps, self.steps, 0.0, memorized=self.report["memorized"]))
        if is_first():
            memory.rehearse(features, states)
            memory.save(out)
        state().wait_for_everyone()

    def _folder(self, name: str) -> Path | None:
        return self.checkpoint / name if self.checkpoint else None
