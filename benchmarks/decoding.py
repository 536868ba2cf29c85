"""How fast and how exact recall is at 1,000,000 identifiers: python benchmarks/decoding.py [--json]

On the architecture of SmolVLM-256M with random weights, against `model.generate(prefix_allowed_tokens_fn=...)`
with a dictionary trie on the same text prompt: 10 beams, structured identifiers of 4 tokens with 32 codes a
level, a query of 24 tokens, two threads; bfloat16 where the CPU has instructions for it. The fixed parts of the
prompt are as long as SmolVLM's chat template makes them. The two run in turns and the median of the pairs
counts, so that other work on the machine weighs on both. What has to be exact is checked in float32.
"""

import gcr_core  # noqa: F401, I001 - before torch: it sets how OpenMP waits

import argparse
import json
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, LlamaConfig
from transformers.generation import LogitsProcessor, LogitsProcessorList, PrefixConstrainedLogitsProcessor

from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.beam_search import Recalled, recall, score_all
from gcr_core.models.device import does_bfloat16
from gcr_core.retrieval.trie import IdentifierTrie

THREADS = 2
IDENTIFIERS = 1_000_000
FEW_IDENTIFIERS = 1_000
VERY_FEW_IDENTIFIERS = 100
DEPTH = 4
CODES = 32
BEAMS = 10
PREFIX_TOKENS, QUERY_TOKENS, SUFFIX_TOKENS = 13, 24, 4
VOCABULARY = 49_280
PAIRS = 7
WARM_UPS = 2


def smolvlm(vocabulary: int) -> Idefics3Config:
    """The configuration of SmolVLM-256M with a vocabulary of that size."""
    return Idefics3Config(
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
            rms_norm_eps=1e-5,
            pad_token_id=2,
        ),
        vision_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 512,
            "patch_size": 16,
        },
        scale_factor=4,
        image_token_id=49_190,
    )


class RandomBackbone(Backbone):
    """SmolVLM-256M's architecture at full size, untrained and without a tokenizer: prompts are token ids."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: Any = Idefics3ForConditionalGeneration(smolvlm(VOCABULARY + DEPTH * CODES)).eval()
        generation = self.model.generation_config
        generation.bos_token_id = generation.eos_token_id = None
        generation.pad_token_id = 2
        self.tokenizer = SimpleNamespace(pad_token_id=2)
        self._prefix_cache = self._prefix_state = None
        fixed = np.random.default_rng(0).integers(3, 49_000, PREFIX_TOKENS + SUFFIX_TOKENS).tolist()
        self.prefix_ids, self.suffix_ids = fixed[:PREFIX_TOKENS], fixed[PREFIX_TOKENS:]
        self.seconds_in_model = 0.0

    def hidden(self, **inputs: Any) -> Any:
        started = time.perf_counter()
        result = super().hidden(**inputs)
        self.seconds_in_model += time.perf_counter() - started
        return result

    def prompt(self, seed: int) -> list[int]:
        query = np.random.default_rng(seed).integers(3, 49_000, QUERY_TOKENS).tolist()
        return self.prefix_ids + query + self.suffix_ids


class StepCodes(LogitsProcessor):
    """Gives `generate` our normalisation: over the codes of the step."""

    def __init__(self, prompt_tokens: int):
        self.prompt_tokens = prompt_tokens

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        first = VOCABULARY + CODES * (input_ids.shape[1] - self.prompt_tokens)
        normalised = torch.full_like(scores, -torch.inf)
        normalised[:, first : first + CODES] = scores[:, first : first + CODES].log_softmax(-1)
        return normalised


def random_identifiers(count: int) -> np.ndarray:
    """(count, DEPTH) token ids, all different."""
    numbers = np.random.default_rng(count).choice(CODES**DEPTH, count, replace=False)
    codes = numbers[:, None] // CODES ** np.arange(DEPTH)[::-1] % CODES
    return VOCABULARY + CODES * np.arange(DEPTH) + codes


def build_trie(identifiers: np.ndarray) -> IdentifierTrie:
    return IdentifierTrie.build(np.arange(len(identifiers) + 1) * DEPTH, identifiers.reshape(-1))


def dictionary_trie(identifiers: np.ndarray) -> dict[int, Any]:
    root: dict[int, Any] = {}
    for sequence in identifiers.tolist():
        node = root
        for token in sequence:
            node = node.setdefault(token, {})
    return root


def generate(backbone: RandomBackbone, root: dict[int, Any], prompt: list[int], exact: bool) -> Any:
    """What people do today; with `exact` under our normalisation, scored by the sum of log p."""

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        node = root
        for token in ids[len(prompt) :].tolist():
            node = node[token]
        return list(node)

    same = [StepCodes(len(prompt)), PrefixConstrainedLogitsProcessor(allowed, BEAMS)]
    ids = torch.tensor([prompt])
    return backbone.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        max_new_tokens=DEPTH,
        min_new_tokens=DEPTH,
        do_sample=False,
        length_penalty=0.0,
        early_stopping=False,
        return_dict_in_generate=True,
        output_scores=exact,
        **({"logits_processor": LogitsProcessorList(same)} if exact else {"prefix_allowed_tokens_fn": allowed}),
    )


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[list[float], list[float]]:
    """Seconds of each run of the two, run alternately."""
    for _ in range(WARM_UPS):
        first(), second()
    pairs = [(seconds(first), seconds(second)) for _ in range(PAIRS)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def median_ratio(first: list[float], second: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def measure() -> dict[str, Any]:
    figures: dict[str, Any] = {}
    identifiers = random_identifiers(IDENTIFIERS)
    trie = build_trie(identifiers)
    figures["trie_build_seconds"] = statistics.median(seconds(lambda: build_trie(identifiers)) for _ in range(3))
    root = dictionary_trie(identifiers)
    few = build_trie(random_identifiers(FEW_IDENTIFIERS))

    backbone = RandomBackbone()
    prompt = backbone.prompt(1)
    recalled = recall(backbone, trie, [prompt], BEAMS, BEAMS)
    theirs = generate(backbone, root, prompt, exact=True)
    found = [trie.find(sequence) for sequence in theirs.sequences[:, len(prompt) :].tolist()]
    figures["same_ten_in_the_same_order"] = found == recalled.images[0].tolist()
    figures["largest_score_difference"] = float((theirs.sequences_scores - recalled.scores[0]).abs().max())

    very_few = build_trie(random_identifiers(VERY_FEW_IDENTIFIERS))
    everything = recall(backbone, very_few, [prompt], VERY_FEW_IDENTIFIERS, VERY_FEW_IDENTIFIERS)
    order = score_all(backbone, very_few, prompt).argsort(descending=True)
    figures["equals_brute_force"] = order.tolist() == everything.images[0].tolist()

    if does_bfloat16(backbone.device):
        backbone.model.to(torch.bfloat16)

    def ours() -> Recalled:
        return recall(backbone, trie, [prompt], BEAMS, BEAMS)

    recalls, generates = in_turns(ours, lambda: generate(backbone, root, prompt, exact=False))
    figures["recall_seconds"] = statistics.median(recalls)
    figures["generate_seconds"] = statistics.median(generates)
    figures["ratio_to_generate"] = median_ratio(recalls, generates)

    shares = []
    for _ in range(PAIRS):
        backbone.seconds_in_model = 0.0
        total = seconds(ours)
        shares.append(1 - backbone.seconds_in_model / total)
    figures["share_outside_forwards"] = statistics.median(shares)

    many, little = in_turns(ours, lambda: recall(backbone, few, [prompt], BEAMS, BEAMS))
    figures["ratio_to_1000_identifiers"] = median_ratio(many, little)
    return figures


LINES = {
    "trie_build_seconds": ("building the trie of 1,000,000 identifiers, s", "< 2"),
    "recall_seconds": ("recall, median, s", ""),
    "generate_seconds": ("model.generate with a dictionary trie, median, s", ""),
    "ratio_to_generate": ("recall / generate, median of the pairs", "<= 0.55"),
    "share_outside_forwards": ("share of recall outside the model's forwards", "< 0.02"),
    "ratio_to_1000_identifiers": ("1,000,000 / 1,000 identifiers, median of the pairs", "<= 1.1"),
    "same_ten_in_the_same_order": ("float32: the same ten as generate, same order", "True"),
    "largest_score_difference": ("float32: largest difference of a score", ""),
    "equals_brute_force": ("100 beams on 100 identifiers rank as brute force", "True"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    figures = measure()
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, (text, bound) in LINES.items():
        value = figures[name]
        print(f"{text:<52}{str(value) if isinstance(value, bool) else f'{value:.4g}':>10}  {bound}")


if __name__ == "__main__":
    main()
