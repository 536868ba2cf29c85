"""Beam search: over the identifiers of a trie, for a batch of prompts together.

The fixed prefix of the prompt passes the model once per backbone, each query once, each step once for all beams. A step
scores only the codes at its depth of the trie: log p is normalised over these, and the score of an image is the sum
over its identifier's tokens. Only identifiers of live images can come out. With as many beams as images the ranking is
that of `score_all`. An identifier that has ended keeps its score and competes with the unfinished ones. Knows token ids
and image indices, not text.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear, pad
from transformers import DynamicCache

from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.trie import IdentifierTrie, TrieTensors

HEAD_ROWS_AT_ONCE = 65_536
"""How many rows of the vocabulary head are held in float32 at a time."""
SCORED_BATCH = 256
"""How many identifiers `score_all` passes through the model at a time."""

Prompts = list[list[int]] | dict[str, torch.Tensor] | torch.Tensor
"""Token ids of text prompts, or what `Backbone.image_inputs` gives for image queries; or the states (b, state) behind
prompts, which tell identifiers of one token, and with a joint space all."""


@dataclass(frozen=True)
class Beam:
    """One line of a trace: a prefix of identifiers that survived a step."""

    tokens: list[int]
    probability: float
    images: int
    """The live images whose identifiers begin so."""


@dataclass(frozen=True)
class Recalled:
    """What a batch of prompts recalled, on the CPU."""

    images: torch.Tensor
    """(b, top) int64: distinct image indices, best first, -1 where there are no more."""
    scores: torch.Tensor
    """(b, top) float32: log p of each image's identifier, -inf where there are no more."""
    trace: list[list[list[Beam]]]
    """For each prompt, for each step, the beams, best first; empty unless asked for."""
    levels: torch.Tensor
    """(b,) float32: what makes a logit of log p at the first step."""


@torch.inference_mode()
def recall(
    backbone: Backbone, trie: IdentifierTrie, prompts: Prompts, beams: int, top: int, trace: bool = False
) -> Recalled:
    """The `top` best images of each prompt that `beams` beams find: at most `beams` of them."""
    batch = len(prompts["input_ids"] if isinstance(prompts, dict) else prompts)
    width = min(beams, int(trie.live[0]))
    if not batch or not width:
        images, scores = torch.full((batch, top), -1), torch.full((batch, top), -torch.inf)
        return Recalled(images, scores, [[] for _ in range(batch)] if trace else [], torch.zeros(batch))
    tensors = trie.to(backbone.device)
    state = BeamState(backbone, prompts)
    nodes = torch.zeros(batch, 1, dtype=torch.long, device=backbone.device)
    scores = torch.zeros(batch, 1, device=backbone.device)
    steps = []
    first = code_logits(backbone, state.states, tensors.head_rows[0])
    levels = first.logsumexp(-1)
    for depth in range(trie.depth):
        gains = first - levels[..., None]
        if depth:
            gains = depth_log_probabilities(backbone, state.states, tensors, depth)
        if backbone.has_joint_space:
            gains = gains.expand(-1, nodes.shape[1], -1)
        gains = pad(gains, (0, 0, 0, nodes.shape[1] - gains.shape[1]))
        edges = tensors.indptr[nodes, None] + torch.arange(trie.depth_width[depth], device=nodes.device)
        inside = edges < tensors.indptr[nodes + 1, None]
        edges.clamp_(max=len(tensors.token) - 1)
        children = edges + 1
        tokens = tensors.token[edges].long()
        codes = torch.searchsorted(tensors.depth_tokens[depth], tokens).clamp_(max=gains.shape[-1] - 1)
        reachable = scores[..., None] + gains.gather(-1, codes)
        reachable.masked_fill_(~inside | (tensors.live[children] == 0), -torch.inf)
        kept = scores.masked_fill(tensors.image[nodes] < 0, -torch.inf)

        candidates = torch.cat([reachable, kept[..., None]], -1).flatten(1)
        scores, chosen = candidates.topk(min(width, candidates.shape[1]))
        parents = chosen // (trie.depth_width[depth] + 1)
        nodes = torch.cat([children, nodes[..., None]], -1).flatten(1).gather(1, chosen)
        if trace:
            steps.append((nodes, scores))
        if depth + 1 == trie.depth:
            break
        unfinished = nodes.shape[1]
        if not trie.even:
            ended = (tensors.image[nodes] >= 0) | (scores == -torch.inf)
            unfinished = int((~ended).sum(1).max())
            if not unfinished:
                break
            order = ended.long().argsort(dim=1, stable=True)
            nodes, scores, parents = (beam.gather(1, order) for beam in (nodes, scores, parents))
        state.append(parents[:, :unfinished], tensors.token[nodes[:, :unfinished] - 1].long())

    found = min(top, scores.shape[1])
    images = tensors.image[nodes].long().masked_fill(scores == -torch.inf, -1)
    return Recalled(
        pad(images[:, :found], (0, top - found), value=-1).cpu(),
        pad(scores[:, :found], (0, top - found), value=-torch.inf).cpu(),
        _trace(trie, steps, batch) if trace else [],
        levels[:, 0].cpu(),
    )


def code_log_probabilities(backbone: Backbone, states: torch.Tensor, codes: slice | torch.Tensor) -> torch.Tensor:
    """(..., codes) float32: log p of each code after states (..., hidden), normalised over these codes.

    `codes`: the codes' token ids, as `TrieTensors.head_rows` has them for a depth. Differentiable.
    """
    return code_logits(backbone, states, codes).log_softmax(-1)


def code_logits(backbone: Backbone, states: torch.Tensor, codes: slice | torch.Tensor) -> torch.Tensor:
    """The same before they are normalised."""
    rows, bias = backbone.head_rows(codes)
    parts = rows.split(HEAD_ROWS_AT_ONCE)
    states = states[..., : rows.shape[-1]]  # rows of words are narrower than those of identifiers where states are wide
    logits = torch.cat([linear(states.float(), part.float()) for part in parts], -1)
    if bias is not None:
        logits = logits + bias
    return logits


def depth_log_probabilities(backbone: Backbone, states: torch.Tensor, tensors: TrieTensors, depth: int) -> torch.Tensor:
    """The same of all codes of a depth; with a joint space, of each code among those below its node, where it is the
    only one's."""
    rows = tensors.head_rows[depth]
    parents = tensors.parents[depth] if backbone.has_joint_space else None
    return log_softmax_among(code_log_probabilities(backbone, states, rows), parents)


def log_softmax_among(logits: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
    """log_softmax of (..., codes) among those of a group, (codes,) int64 from 0, or among all; differentiable."""
    if groups is None:
        return logits.log_softmax(-1)
    none = logits.new_zeros(*logits.shape[:-1], int(groups.max()) + 1)
    groups = groups.expand_as(logits)
    tops = none.scatter_reduce(-1, groups, logits.detach(), "amax", include_self=False).gather(-1, groups)
    sums = none.scatter_add(-1, groups, (logits - tops).exp())
    return logits - tops - sums.log().gather(-1, groups)


@torch.inference_mode()
def score_all(backbone: Backbone, trie: IdentifierTrie, prompt: list[int] | dict[str, torch.Tensor]) -> torch.Tensor:
    """(images,) float32 on the CPU: log p of every image's identifier by brute force, -inf for one that is not live.

    `prompt`: one text prompt, or the inputs of one image. For tests and small galleries: no cache, no beams.
    """
    tensors = trie.to(backbone.device)
    paths = torch.from_numpy(trie.paths()).to(backbone.device).long()
    if isinstance(prompt, list):
        ids, mask = backbone.pad([prompt])
        prompt = {"input_ids": ids, "attention_mask": mask}
    length = prompt["input_ids"].shape[1]
    scores = []
    for part in paths.split(SCORED_BATCH):
        inputs: dict[str, Any] = {name: value.expand(len(part), *value.shape[1:]) for name, value in prompt.items()}
        inputs["input_ids"] = torch.cat([inputs["input_ids"], part.clamp(min=0)], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], (part >= 0).long()], 1)
        states = backbone.hidden(**inputs)[0][:, length - 1 : -1]
        total = torch.zeros(len(part), device=backbone.device)
        for depth, codes in enumerate(tensors.depth_tokens):
            gains = depth_log_probabilities(backbone, states[:, depth], tensors, depth)
            chosen = torch.searchsorted(codes, part[:, depth].contiguous()).clamp(max=len(codes) - 1)
            gained = gains.gather(1, chosen[:, None])[:, 0]
            total += gained.masked_fill(part[:, depth] < 0, 0)
        scores.append(total)
    alive = torch.from_numpy(trie.live[trie.leaf] > 0)
    return torch.cat(scores).cpu().masked_fill(~alive, -torch.inf)


class BeamState:
    """The key-value cache of a beam search: of the prompts, then of one token more for every beam at each step.

    All beams of a prompt are one row of the batch: a token attends to the prompt and to the tokens of its own beam.
    So the cache holds a prompt once, whatever the number of beams, and is never reordered.
    """

    states: torch.Tensor
    """(b, beams, hidden): the states that the next tokens are chosen from."""
    seen: torch.Tensor
    """(b, beams, cached tokens) bool: what each beam attends to."""

    def __init__(self, backbone: Backbone, prompts: Prompts):
        self.backbone = backbone
        if isinstance(prompts, torch.Tensor):
            self.states, self.seen = prompts[:, None], torch.ones(len(prompts), 1, 1, dtype=torch.bool)
            return
        if isinstance(prompts, list):
            prefix = len(backbone.prefix_ids)
            begin = all(prompt[:prefix] == backbone.prefix_ids and len(prompt) > prefix for prompt in prompts)
            if begin and not backbone.has_joint_space:
                self.cache = backbone.prefix_cache(len(prompts))
                prompts = [prompt[prefix:] for prompt in prompts]
            else:
                self.cache = DynamicCache()
            ids, mask = backbone.pad(prompts)
            inputs: dict[str, Any] = {"input_ids": ids}
        else:
            self.cache = DynamicCache()
            inputs = {name: value for name, value in prompts.items() if name != "attention_mask"}
            mask = prompts["attention_mask"]
        past = self.cache.get_seq_length()
        mask = pad(mask, (past, 0), value=1)
        if not mask.all():
            inputs |= {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, past:]}
        self.states = backbone.hidden(**inputs, cache=self.cache, use_cache=True)[0][:, -1:]
        self.seen = mask.bool()[:, None]

    def append(self, parents: torch.Tensor, tokens: torch.Tensor) -> None:
        """Goes on with the beams `parents` (b, beams), `tokens` (b, beams) behind them.

        With a joint space the state behind a prompt stays, whatever follows.
        """
        if self.backbone.has_joint_space:
            return
        batch, width = parents.shape
        parents = parents.clamp(max=self.seen.shape[1] - 1)
        before = self.seen.gather(1, parents[..., None].expand(-1, -1, self.seen.shape[2]))
        itself = torch.eye(width, dtype=torch.bool, device=parents.device).expand(batch, -1, -1)
        self.seen = torch.cat([before, itself], 2)
        hidden_from = torch.zeros_like(self.seen, dtype=self.states.dtype)
        hidden_from.masked_fill_(~self.seen, torch.finfo(self.states.dtype).min)
        self.states, _ = self.backbone.hidden(
            input_ids=tokens,
            attention_mask=hidden_from[:, None],
            position_ids=before.sum(2),
            cache=self.cache,
            use_cache=True,
        )


def _trace(trie: IdentifierTrie, steps: list[tuple[torch.Tensor, torch.Tensor]], batch: int) -> list[list[list[Beam]]]:
    """Each prompt's steps up to that in which its last identifier ended, whichever others it was asked with."""
    traces: list[list[list[Beam]]] = []
    for row in range(batch):
        trace: list[list[Beam]] = []
        for nodes, scores in steps:
            found = [
                pair for pair in zip(nodes[row].tolist(), scores[row].tolist(), strict=True) if pair[1] > -math.inf
            ]
            trace.append([Beam(trie.path(node), math.exp(score), int(trie.live[node])) for node, score in found])
            if all(trie.image[node] >= 0 for node, _ in found):
                break
        traces.append(trace)
    return traces
