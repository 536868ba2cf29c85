"""What a hub backbone costs on a CPU: python benchmarks/backbones.py [--whole] [--json]

SmolVLM-256M's architecture at full size with random weights, in a checkpoint of the hub's format with a tokenizer that
is trained here; a gallery of 50 drawn pictures with 5 captions each, preset `quick`, gcr-mini-clip as the dense
baseline, two threads. Printed is the time that the page shows; `--whole` makes the memory too, and says what it took.
Seconds are of the clock: other work on the machine counts in. CPU seconds are beside them.
"""

import gcr_core  # noqa: F401, I001 - before torch: it sets how OpenMP waits

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoding import smolvlm
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from gcr_core.data.gallery import Gallery
from gcr_core.memory.build import make_memory
from gcr_core.training.estimate import estimate
from gcr_core.training.config import Recipe
from gcr_core.settings import Settings

THREADS = 2
IMAGES, CAPTIONS, WORDS = 50, 5, 11
PRESET = "quick"
VOCABULARY = 49_152
SPECIAL = ["<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>"]
IMAGE_TOKENS = 64
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def save_backbone(folder: Path, texts: list[str]) -> None:
    """A checkpoint as SmolVLM's; its tokenizer has learnt the words of these texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learnt = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, learnt)
    backend.add_tokens([f"<unused_{number}>" for number in range(VOCABULARY - backend.get_vocab_size())])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        padding_side="left",
    )
    image_processor = Idefics3ImageProcessorPil(size={"longest_edge": 2048}, max_image_size={"longest_edge": 512})
    Idefics3Processor(image_processor, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=TEMPLATE).save_pretrained(
        folder
    )
    config = smolvlm(VOCABULARY + 128)
    config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    model: Any = Idefics3ForConditionalGeneration(config)
    model.to(torch.bfloat16).save_pretrained(folder)


def draw_gallery(folder: Path, words: list[str]) -> Gallery:
    """Pictures of 640 x 480 pixels, captions of WORDS words."""
    draws, noise = random.Random(0), np.random.default_rng(0)
    rows = []
    for number in range(IMAGES):
        name = f"{number:03}.jpg"
        coarse = Image.fromarray(noise.integers(0, 256, (12, 16, 3), np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(folder / name)
        rows.append({"file_name": name, "text": [" ".join(draws.choices(words, k=WORDS)) for _ in range(CAPTIONS)]})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return Gallery.from_folder(folder)


class Stopwatch:
    """Seconds of the clock and of the CPU since the last lap."""

    def __init__(self) -> None:
        self.lap()

    def lap(self) -> tuple[float, float]:
        then = getattr(self, "_now", (0.0, 0.0))
        self._now = time.monotonic(), time.process_time()
        return self._now[0] - then[0], self._now[1] - then[1]


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(whole: bool) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    emoji = Gallery.load(Path(Settings.memory) / "gallery")
    texts = [text for captions in emoji.captions for text in captions]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("backbone", "gallery"):
            (folder / name).mkdir()
        words = sorted({word for text in texts for word in text.split() if word.isascii()})
        save_backbone(folder / "backbone", [*texts, *(" " + word for word in words)])
        gallery = draw_gallery(folder / "gallery", words)
        recipe = Recipe(backbone=str(folder / "backbone"), preset=PRESET)
        figures["page_estimate_seconds"] = estimate(gallery, recipe)[PRESET]
        figures["peak_gigabytes"] = peak_gigabytes()
        if whole:
            figures |= timed_whole(gallery, recipe, folder / "memory")
    return figures


def timed_whole(gallery: Gallery, recipe: Recipe, out: Path) -> dict[str, Any]:
    watch = Stopwatch()
    stages: dict[str, list[float]] = {}
    last = Stopwatch()

    def on_progress(progress: Any) -> None:
        clock, cpu = last.lap()
        spent = stages.setdefault(progress.stage, [0.0, 0.0])
        spent[0] += clock
        spent[1] += cpu

    report = make_memory(gallery, recipe, out, on_progress)
    clock, cpu = watch.lap()
    size: Callable[[Path], float] = lambda folder: sum(path.stat().st_size for path in folder.rglob("*.*")) / 1e6  # noqa: E731
    return {
        "whole_seconds": clock,
        "whole_cpu_seconds": cpu,
        "whole_peak_gigabytes": peak_gigabytes(),
        "whole_stages": {stage: [round(value, 1) for value in spent] for stage, spent in stages.items()},
        "memorized": report["memorized"],
        "trained_captions": report["trained_captions"],
        "model_megabytes": size(out / "model"),
    }


LINES = {
    "page_estimate_seconds": ("the page's estimate, s", "within a third"),
    "peak_gigabytes": ("peak of the memory, GB", "< 5"),
    "whole_seconds": ("the whole memory, s", "< 100"),
    "whole_cpu_seconds": ("  CPU s", ""),
    "whole_peak_gigabytes": ("  peak of the memory, GB", "< 5"),
    "whole_stages": ("  s and CPU s of each stage", ""),
    "memorized": ("  share of the pictures recalled", ""),
    "trained_captions": ("  share of the captions answered", ""),
    "model_megabytes": ("  MB of what was learnt", ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", action="store_true", help="make the memory too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    figures = measure(arguments.whole)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        text, bound = LINES[name]
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"{text:<52}{shown:>10}  {bound}")


if __name__ == "__main__":
    main()
