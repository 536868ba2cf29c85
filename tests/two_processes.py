"""What tests start in several processes: python tests/two_processes.py GALLERY LLAVA CLIP OUT [STEP VICTIM]

Embeds a gallery and trains a backbone on it, whole and then an adapter of it, each batch in parts, solves for rows on
its states, and evaluates the memory. The first process appends the losses to `OUT/curve.jsonl` as they come and writes
`OUT/answer.json`. Checkpoints are kept in OUT after every step; at the STEP of the whole backbone's training the
process VICTIM kills itself. Where Accelerate is to share weights out, as it does on GPUs alone, CPUs pass for these.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import Query
from gcr_core.evaluation.evaluate import evaluate
from gcr_core.memory.memory import Memory
from gcr_core.models import backbone as backbones
from gcr_core.models.backbone import Backbone
from gcr_core.models.distributed import is_first, state
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training import checkpoint, microbatch
from gcr_core.training.batches import Pairs
from gcr_core.training.config import Recipe, Step, Training, plan
from gcr_core.training.rows import likeliest
from gcr_core.training.solve import memorize_solved
from gcr_core.training.states import States
from gcr_core.training.train import memorize

TRAINING = Training(memorise=10, describe=10, retrieve=30, queries=9, pictures=7, descriptions=5, descriptions_every=4)
ADAPTER = Training(memorise=2, describe=3, retrieve=7, queries=9, pictures=7, descriptions=5, descriptions_every=4)
IN_PARTS = {"CPU_BYTES": 0, "MIN_SEQUENCES": 2}
"""For `MicroBatcher`: a micro-batch holds two of the longest sequences."""


def run(gallery_folder: Path, llava: Path, clip: Path, out: Path, kill_at: int = 0, victim: int = 0) -> None:
    torch.set_num_threads(1)
    for name, value in IN_PARTS.items():
        setattr(microbatch, name, value)
    gallery = Gallery.from_folder(gallery_folder)
    pairs = Pairs.from_captions(gallery.captions)

    def note(name: str, step: int, loss: float) -> None:
        if is_first():
            with (out / "curve.jsonl").open("a") as file:
                file.write(json.dumps([name, step, loss]) + "\n")

    def on_step(step: Step) -> None:
        note(step.task, step.step, step.loss)
        if step.step == kill_at and state().process_index == victim:
            os.kill(os.getpid(), signal.SIGKILL)

    dense = DenseIndex.build(gallery, clip)
    backbone = Backbone.from_pretrained(llava)
    identifiers = Identifiers.build("structured", gallery, backbone.tokenizer, dense.vectors)
    memorize(backbone, gallery, identifiers, pairs, TRAINING, on_step, checkpoint=out / "backbone")

    backbones.SMALL_PARAMETERS, small = 0, backbones.SMALL_PARAMETERS
    adapted = Backbone.from_pretrained(llava, dtype=torch.float32)

    def on_adapter_step(step: Step) -> None:
        note(f"adapter: {step.task}", step.step, step.loss)

    memorize(adapted, gallery, identifiers, pairs, ADAPTER, on_adapter_step, checkpoint=out / "adapter")
    known = solve(gallery, Backbone.from_pretrained(llava, dtype=torch.float32), pairs)
    backbones.SMALL_PARAMETERS = small

    memory = Memory(backbone, identifiers, gallery, dense)
    asked = zip(gallery.file_names, gallery.captions, strict=True)
    answer: dict[str, Any] = evaluate(memory, [Query(text, None, frozenset([name])) for name, (text, _) in asked])
    for engine in ("generative", "dense"):
        del answer[engine]["latency_ms_p50"], answer[engine]["latency_ms_p95"]
    answer["processes"], answer["solved"] = state().num_processes, known
    answer["score"] = memory.recall(["a red circle"], top=1)[0][0].score
    if is_first():
        (out / "answer.json").write_text(json.dumps(answer))


def solve(gallery: Gallery, backbone: Backbone, pairs: Pairs) -> list[Any]:
    """Whether rows solved for know the gallery, and the image that each caption recalls first."""
    backbone.adapt(lora=False)
    identifiers = Identifiers.build("atomic", gallery, backbone.tokenizer)
    backbone.add_tokens(identifiers.new_tokens)
    states = States.read(backbone, gallery).with_worn(backbone, gallery, 0)
    training = plan(gallery, Recipe(preset="quick"), small=False)
    knows = memorize_solved(backbone, identifiers, pairs, training, lambda step: None, None, states)
    trie = IdentifierTrie.build(identifiers.indptr, identifiers.tokens)
    return [knows, likeliest(backbone, trie, states.of_texts)[0].tolist()]


def pass_for_gpus() -> None:
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *asked: ("gloo", DistributedType.MULTI_GPU)
    PartialState()


if __name__ == "__main__":
    if "ACCELERATE_USE_FSDP" in os.environ:
        pass_for_gpus()
    checkpoint.SAVE_EVERY_SECONDS = 0.0
    run(*map(Path, sys.argv[1:5]), *map(int, sys.argv[5:]))
