"""Descriptions: captions generated from images' identifiers alone, with no picture given.

A caption follows the describe prompt as ordinary tokens and ends with EOS; log p is normalised over the
tokenizer's own vocabulary, so no identifier can come out. Knows token ids and text, not images or galleries.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import nll_loss

from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.beam_search import BeamState, code_log_probabilities

MAX_CAPTION_TOKENS = 48
"""The most tokens of a caption that are learnt or generated; the rest is cut off."""
BEAMS = 4
"""The width of the beam search."""
DESCRIBED_BATCH = 64
"""How many captions are generated together."""


def describe_loss(
    backbone: Backbone,
    identifiers: Sequence[Sequence[int]] | torch.Tensor | None,
    captions: list[str],
    vectors: torch.Tensor | None = None,
) -> torch.Tensor:
    """(b,) float32: mean -log p of a token of each caption and its EOS, in nats; differentiable.

    `identifiers`: token ids, as lists or as a tensor (b, depth) padded with -1. Without them, `vectors` (b, hidden)
    stand where the embedding of a one-token identifier would.
    """
    if isinstance(identifiers, torch.Tensor):
        identifiers = [[token for token in row if token >= 0] for row in identifiers.tolist()]
    prompts = backbone.describe_prompts([[0]] * len(captions) if identifiers is None else identifiers)
    encoded = [ids[:MAX_CAPTION_TOKENS] for ids in backbone.encode_queries(captions)]
    sequences = [prompt + ids for prompt, ids in zip(prompts, encoded, strict=True)]
    ids = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.long)  # causal: what is behind is not seen
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    ids = ids.to(backbone.device)
    if vectors is None:
        states = backbone.hidden(input_ids=ids)[0]
    else:
        embedded = backbone.embed(ids)
        embedded[:, len(backbone.describe_ids[0])] = vectors.to(embedded.dtype)
        states = backbone.hidden(inputs_embeds=embedded)[0]

    lengths = torch.tensor([len(ids) + 1 for ids in encoded], device=ids.device)
    rows = torch.arange(len(captions), device=ids.device).repeat_interleave(lengths)
    places = [
        place
        for prompt, ids in zip(prompts, encoded, strict=True)
        for place in range(len(prompt) - 1, len(prompt) + len(ids))
    ]
    targets = [token for ids in encoded for token in (*ids, backbone.tokenizer.eos_token_id)]
    log_p = code_log_probabilities(backbone, states[rows, places], slice(0, backbone.own_vocabulary))
    losses = nll_loss(log_p, torch.tensor(targets, device=ids.device), reduction="none")
    return torch.zeros(len(captions), device=ids.device).index_add(0, rows, losses) / lengths


@torch.inference_mode()
def describe(
    backbone: Backbone, identifiers: Sequence[Sequence[int]], max_tokens: int = MAX_CAPTION_TOKENS
) -> list[str]:
    """A caption for each identifier: of BEAMS beams the one with the best log p a token.

    No beam has the same three tokens in a row twice, so that none goes round in circles. A backbone with a joint space
    has tags for what the identifier's last row says that is seen, or nothing; one that learnt rows alone says nothing.
    """
    captions: list[str] = []
    if backbone.has_joint_space:
        return _told(backbone, identifiers)
    if backbone.new_rows is not None and not backbone.has_lora:
        return [""] * len(identifiers)
    for start in range(0, len(identifiers), DESCRIBED_BATCH):
        prompts = backbone.describe_prompts(identifiers[start : start + DESCRIBED_BATCH])
        for tokens in _beam_search(backbone, prompts, max_tokens).tolist():
            text = backbone.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            captions.append(" ".join(text.split()))
    return captions


def _told(backbone: Backbone, identifiers: Sequence[Sequence[int]]) -> list[str]:
    last = [[token for token in identifier if token >= backbone.own_vocabulary][-1:] for identifier in identifiers]
    new = sorted({token for of_one in last for token in of_one})
    words = dict(zip(new, backbone.tags(new), strict=True)) if new and backbone.tagger else {}
    return [", ".join(word for token in of_one for word in words.get(token, [])) for of_one in last]


def _beam_search(backbone: Backbone, prompts: list[list[int]], max_tokens: int) -> torch.Tensor:
    """(b, at most max_tokens) int64: the best continuation of each prompt, filled up with EOS."""
    end, vocabulary, device = backbone.tokenizer.eos_token_id, backbone.own_vocabulary, backbone.device
    state = BeamState(backbone, prompts)
    said = torch.zeros(len(prompts), 1, 0, dtype=torch.long, device=device)
    scores = torch.zeros(len(prompts), 1, device=device)
    for _ in range(max_tokens):
        log_p = code_log_probabilities(backbone, state.states, slice(0, vocabulary))
        log_p[..., backbone.unsayable] = -torch.inf
        again = (said[..., :-2] == said[..., -2:-1]) & (said[..., 1:-1] == said[..., -1:])
        log_p.scatter_add_(2, said[..., 2:], torch.zeros_like(again, dtype=log_p.dtype).masked_fill(again, -torch.inf))
        ended = (said[..., -1:] == end).any(-1, keepdim=True)
        log_p.masked_fill_(ended, -torch.inf)[..., end].masked_fill_(ended[..., 0], 0)
        scores, chosen = (scores[..., None] + log_p).flatten(1).topk(BEAMS)
        parents, tokens = chosen // vocabulary, chosen % vocabulary
        said = torch.cat([said.gather(1, parents[..., None].expand(-1, -1, said.shape[2])), tokens[..., None]], 2)
        if (tokens == end).all():
            break
        state.append(parents, tokens)
    lengths = (said != end).sum(2) + 1
    best = (scores / lengths).argmax(1)
    return said[torch.arange(len(said), device=device), best]
