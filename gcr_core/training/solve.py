"""Solve: a hub backbone, frozen, memorises a gallery by the rows of its identifiers' tokens alone, one an image.

The rows are a softmax regression on cached states of captions and pictures, solved for on all of them at once by L-BFGS
(Liu and Nocedal 1989). What tells pictures apart may be a far smaller part of their states than of captions', so the
solver sees whitened states, in which both count alike. What rows pay for is how they tell apart the captions of one
image, and pictures and captions from worn and mistyped copies: what comes in other words or from another file then
finds the same image, as in linear discriminant analysis. The price falls until what is taught is known.

Everyday phrases ask for the pictures as a dense encoder spreads them over these (`spread`).
"""

from collections.abc import Callable

import torch

from gcr_core.models.backbone import Backbone
from gcr_core.models.distributed import agreed
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.training.batches import Pairs
from gcr_core.training.config import PHRASE_ODDS, SOLVE_ROUNDS, Step, Training
from gcr_core.training.spread import Spread
from gcr_core.training.states import States

PRICE, CHEAPER = 0.3, 0.1
"""What an image's row pays in the first round, in nats, for a squared logit by which two of one image differ; and the
factor of that from round to round."""
SPREAD = 0.1
"""How much any number of a state varies within an image, at least, as a share of the mean variance of a number."""
FLOOR = 1e-2
"""The same share, added to the second moments that states are whitened by."""
LEAST = 1e-4
"""The least variance of a number, as a share of its square: of a gallery of one image nothing varies."""
ITERATIONS = 60
"""The most iterations of L-BFGS in a round."""
TAUGHT = 0.995
"""The share of the pictures, and of the texts, from which on no further round is needed."""
ENOUGH = 0.98
"""The same share below which rows on frozen states do not know a gallery well enough."""
LEAST_PICTURES = 0.2
"""The least share of the pictures in what is asked; beside captions alone they are half of it. They are told apart by
less, while a larger share takes phrases away from what the teacher says of them."""
COMPARED, TOGETHER = 8_192, 512
"""How many states are compared with all rows together; how many phrases are spread over them."""


def memorize_solved(
    backbone: Backbone,
    identifiers: Identifiers,
    pairs: Pairs | None,
    training: Training,
    on_step: Callable[[Step], None],
    last_pairs: Pairs | None,
    states: States,
    spread: Spread | None = None,
) -> bool:
    """As `train.memorize`, for identifiers that are one new token of the backbone each; a step is a round of solving.

    `spread`: everyday phrases that are asked too. Returns whether the rows know the gallery: ENOUGH of the pictures and
    of the captions recall an image of theirs first. Where they do not, they have not seen `last_pairs`.
    """
    rows: torch.Tensor | None = None
    for done, some in enumerate([pairs, last_pairs or pairs] if training.finish else [pairs]):

        def on_round(round: int, loss: float, pictures: float, before: int = done * SOLVE_ROUNDS) -> None:
            task = "pictures" if pairs is None and spread is None else "queries"
            on_step(Step(training.stage(before), task, before + round, training.steps, loss, pictures))

        rows, known = solve_rows(backbone, identifiers, some, states, rows, on_round, spread)
        if not done and known < ENOUGH:
            return False
    return True


def solve_rows(
    backbone: Backbone,
    identifiers: Identifiers,
    pairs: Pairs | None,
    states: States,
    rows: torch.Tensor | None = None,
    on_round: Callable[[int, float, float], None] = lambda round, loss, pictures: None,
    spread: Spread | None = None,
) -> tuple[torch.Tensor, float]:
    """Solves for the rows of tokens that the backbone has, from `rows` (images, state) or zero on, and sets them.

    Returns them with the share of the pictures, or of the captions where that is less, that recall an image of theirs
    first. `on_round` gets the rounds that are done, the mean -log p of what is asked for and the share of the pictures.
    """
    regression, tokens = _Regression(states, pairs, rows, spread), torch.from_numpy(identifiers.tokens).long()
    for round in range(1, SOLVE_ROUNDS + 1):
        loss = regression.solve(PRICE * CHEAPER ** (round - 1))
        # Processes whose numbers differ in the last digits may not part ways.
        solved, loss, (pictures, texts) = agreed((regression.rows, loss, regression.known()))
        is_last = round == SOLVE_ROUNDS or min(pictures, texts) >= TAUGHT
        backbone.set_rows(tokens, solved)
        on_round(SOLVE_ROUNDS if is_last else round, loss, pictures)
        if is_last:
            break
    return solved, min(pictures, texts)


class _Regression:
    """The softmax regression of rows (images, state) on states.

    What a row is asked for enters by one vector, the sum of all states that ask for its image, each times how much: so
    targets over all images cost no more than one.
    """

    def __init__(self, states: States, pairs: Pairs | None, rows: torch.Tensor | None, spread: Spread | None = None):
        """`rows` (images, state): where they start; by default at zero."""
        views, self.count = states.of_pictures.flatten(0, 1), states.of_pictures.shape[1]
        device, count = views.device, self.count
        self.own = torch.arange(count, device=device).repeat(len(states.of_pictures))[:, None]
        self.images, weights = self.own[:0], views.new_zeros(0, 1)
        asked = [states.of_texts[:0], states.of_texts[:0], views]
        odds = [views.new_zeros(0), views.new_zeros(0), views.new_full((len(views),), 1 / len(views))]
        if pairs is not None:
            self.images, weights = (torch.from_numpy(of).to(device) for of in (pairs.images.astype(int), pairs.weights))
            asked[0] = states.of_texts[states.rows(pairs.texts)]
            odds[0] = torch.from_numpy(pairs.odds).to(device).float() * len(pairs.texts)
        if spread is not None:
            asked[1] = states.of_texts[states.rows(spread.phrases)]
            odds[1] = views.new_full((len(spread.phrases),), PHRASE_ODDS)
        texts = odds[0].sum() + odds[1].sum()
        if texts:
            of_pictures = max(LEAST_PICTURES, float(odds[0].sum() / (odds[0].sum() + texts)))
            odds = [odds[0] * (1 - of_pictures) / texts, odds[1] * (1 - of_pictures) / texts, odds[2] * of_pictures]
        self.odds = torch.cat(odds)
        said, of_image = (self.images >= 0).nonzero(as_tuple=True)
        within = _within(views, self.own[:, 0], count) + _within(asked[0][said], self.images[said, of_image], count)
        within += states.worn.T @ states.worn / max(1, len(states.worn))
        identity = _variance(torch.cat(asked[:2]), views) * torch.eye(views.shape[1], device=device)
        whole = torch.cat(asked)
        moments = (whole.T * self.odds) @ whole + FLOOR * identity
        self.root = torch.linalg.cholesky(moments.double()).float()
        self.asked = torch.linalg.solve_triangular(self.root, whole.T, upper=False).T
        captions, phrases, pictures = self.asked.split([len(of) for of in asked])
        self.wanted = views.new_zeros(count, views.shape[1])
        self.wanted.index_add_(0, self.own[:, 0], odds[2][:, None] * pictures)
        weighed = (odds[0][:, None] * weights)[said, of_image, None] * captions[said]
        self.wanted.index_add_(0, self.images[said, of_image], weighed)
        if spread is not None:
            parts = zip(spread.odds(TOGETHER), (odds[1][:, None] * phrases).split(TOGETHER), strict=True)
            for likely, some in parts:
                self.wanted += likely.to(device).T @ some
        half = torch.linalg.solve_triangular(self.root, within / 2 + SPREAD * identity, upper=False)
        self.within = torch.linalg.solve_triangular(self.root, half.T, upper=False)
        zero = torch.zeros_like(self.wanted)
        self.white = (zero if rows is None else rows.to(device) @ self.root).requires_grad_()

    @property
    def rows(self) -> torch.Tensor:
        """(images, state), on the CPU: what they are for states that are not whitened."""
        rows = torch.linalg.solve_triangular(self.root, self.white.detach(), upper=False, left=False)
        return rows.cpu()

    def solve(self, price: float) -> float:
        """Goes on from the present rows; returns the mean -log p of what is asked for, in nats."""
        solver = torch.optim.LBFGS(
            [self.white], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe", tolerance_change=1e-6
        )
        loss = 0.0

        def cost() -> torch.Tensor:
            nonlocal loss
            solver.zero_grad()
            loss = 0.0
            for asked, odds in zip(self.asked.split(COMPARED), self.odds.split(COMPARED), strict=True):
                of_part = (odds * (asked @ self.white.T).logsumexp(1)).sum()
                (self.count * of_part).backward()
                loss += of_part.item()
            said = -(self.wanted * self.white).sum()
            (self.count * said).backward()
            loss += said.item()
            paid = price / 2 * ((self.white @ self.within) * self.white).sum()
            paid.backward()
            return self.count * loss + paid.detach()

        solver.step(cost)
        return loss

    @torch.no_grad()
    def known(self) -> tuple[float, float]:
        """The shares of the pictures and of the captions that recall an image of theirs first."""

        def share(asked: torch.Tensor, images: torch.Tensor) -> float:
            parts = zip(asked.split(COMPARED), images.split(COMPARED), strict=True)
            right = [((some @ self.white.T).argmax(1, keepdim=True) == own).any(1) for some, own in parts]
            return torch.cat(right).float().mean().item()

        pictures = share(self.asked[-len(self.own) :], self.own)
        captions = len(self.images)
        return pictures, share(self.asked[:captions], self.images) if captions else pictures


def _variance(*kinds: torch.Tensor) -> float:
    """The mean variance of a number of states (n, state), of which there may be none; the kinds count alike."""
    found = [kind for kind in kinds if len(kind)]
    apart = [(kind - kind.mean(0)).square().mean().item() for kind in found]
    whole = [kind.square().mean().item() for kind in found]
    return max(sum(apart), LEAST * sum(whole)) / len(found)


def _within(states: torch.Tensor, images: torch.Tensor, count: int) -> torch.Tensor:
    """(state, state): how states (n, state) of one image vary around their mean; 0 where none of `count` has two."""
    below = torch.bincount(images, minlength=count)
    sums = states.new_zeros(count, states.shape[1]).index_add(0, images, states)
    apart = states - (sums / below.clamp(min=1)[:, None])[images]
    return apart.T @ apart / max(1, len(states) - int((below > 0).sum()))
