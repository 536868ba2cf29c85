"""Fit the match of the emoji memory in `checkpoints/`, how probable it is that an answer is right, and its rerank.

    python scripts/calibrate_emoji.py

The present queries are `benchmarks/descriptions.jsonl`, which no training saw. Only `memory.json` is written anew.
"""

from pathlib import Path

from gcr_core import Memory
from gcr_core.data.queries import load_queries
from gcr_core.files.atomic import write_text
from gcr_core.files.layout import MANIFEST_FILE
from gcr_core.memory import calibration
from gcr_core.memory.manifest import manifest_text
from gcr_core.training.everyday import absent_phrases

ROOT = Path(__file__).parents[1]
MEMORY = ROOT / "checkpoints" / "emoji"
DESCRIPTIONS = ROOT / "benchmarks" / "descriptions.jsonl"
NEAR_SHARE = 0.2
"""Of what is not there: an emoji that is left out has others that answer as well."""
WORDS = 150
"""How many words that several emoji have are asked too."""


def calibrate(memory: Memory) -> None:
    """Has the memory know how sure it and the dense baseline can be, and how much the words of captions tell."""
    queries = load_queries(DESCRIPTIONS, memory.gallery)
    asked = {query.text or "": {memory.gallery.index(name) for name in query.relevant} for query in queries}
    asked |= calibration.shared_words(memory.gallery.captions, 0, WORDS)
    absent = absent_phrases(text for texts in memory.gallery.captions for text in texts)
    texts, owners = [*asked, *absent], list(asked.values())
    described = {query.text or "": memory.gallery.index(min(query.relevant)) for query in queries}
    prompts = memory.backbone.query_prompts(list(described))
    memory.calibrate(
        {
            "generative": calibration.recalled(
                memory.backbone, memory.trie, memory.backbone.query_prompts(texts), owners, NEAR_SHARE
            ),
            "dense": calibration.nearest(memory.dense, memory.dense.embed_texts(texts), owners, NEAR_SHARE),
        },
        calibration.reranked(memory.backbone, memory.trie, prompts, described, memory.gallery.captions),
    )


def main() -> None:
    memory = Memory.from_pretrained(MEMORY)
    calibrate(memory)
    write_text(MEMORY / MANIFEST_FILE, manifest_text(memory.facts))
    for engine, facts in memory.facts["match"].items():
        print(f"{engine}: {facts if engine == 'images' else facts['reliability']}")
    print(f"rerank: {memory.facts['rerank']}")


if __name__ == "__main__":
    main()
