"""The screen: which layer, how many features and which scale, found without training, on rollouts that training does
not see.

A patch is judged by how far it moves the target: the share of KL(source || target), on the completions of development
rollouts of the target, that is gone when the target is patched. On a real model retained gain followed such a number
from arm to arm; it costs forward passes only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...config.recipe import AUTO, Screen
from ...core.errors import NoEffect
from ..model.kl import CHUNK, kl
from ..model.split import decoder_layers, last_hidden_state, lm_head
from ..model.tokens import Batch
from .activation_patching import Patch, Patches, patched_hidden_state
from .context import ExtractionContext

SUFFICIENT_SHARE = 0.95
"""The fewest features are taken that close this share of what the best number of them closes."""
STAGE = "screen"
Row = dict[str, Any]
"""One line of the table: hookpoint, patch, scale, closed, chosen."""


class Candidates(NamedTuple):
    noun: str
    """What is counted: features or directions."""
    patches: Callable[[int], Patches]
    """Of the first `count` of them."""


class Development:
    """Rollouts to questions that training does not use, and how far source and target are apart on them."""

    def __init__(self, session: ExtractionContext) -> None:
        self.session = session
        screen = session.recipe.screen or Screen()
        self.batches = session.dev_rollouts(screen.rollouts)
        self.heads = lm_head(session.source), lm_head(session.target)
        with torch.no_grad():
            self.source = [
                last_hidden_state(session.source, batch.ids.to(session.source.device)) for batch in self.batches
            ]
            self.apart = self._kl(lambda batch: last_hidden_state(session.target, batch.ids.to(session.target.device)))
        if self.apart == 0:
            raise NoEffect(
                "source and target predict the same on every rollout: there is nothing to extract",
                "choose another source",
            )

    @torch.no_grad()
    def closed(self, patches: Patches) -> float:
        """Share of the KL that the patches close; 1 is the source itself, below 0 they lead away from it."""
        return 1 - self._kl(lambda batch: patched_hidden_state(self.session, batch, patches)) / self.apart

    def _kl(self, state: Callable[[Batch], Tensor]) -> float:
        total = 0.0
        for batch, other in zip(self.batches, self.source, strict=True):
            # The passes of source and target, one of them up to the hookpoint only.
            self.session.ledger.add(STAGE, batch.tokens, 4.0 * self.session.sizes.all * batch.tokens)
            kept = batch.completion.to(other.device)
            for one, two in zip(other[kept].split(CHUNK), state(batch)[kept].split(CHUNK), strict=True):
                total += float(kl(self.heads[0](one), self.heads[1](two), "teacher-student").sum())
        return total


def choose_layer(
    session: ExtractionContext, own: list[Batch], directions: Callable[[str], Callable[[int], Patch]]
) -> list[Row]:
    """Settle a hookpoint `auto`; returns what was tried. No SAE is there yet, so principal directions stand for the
    features.

    The last layer is left out unless it is asked for: nothing lies behind it that could read the patch, it would be the
    distillation of logits.
    """
    recipe = session.recipe
    if recipe.hookpoint != AUTO:
        return []
    screen = recipe.screen or Screen()
    layers = screen.layers or range(max(1, len(decoder_layers(session.target)) - 1))
    count = max(screen.features, default=recipe.features)
    with session.ledger.stage(STAGE):
        development, rows = _development(session), []
        for layer in layers:
            at = f"layers.{layer}"
            session.update_recipe(hookpoint=at, scale=1.0)
            made = directions(at)
            for patch, said in (
                (lambda other, state: other - state, "whole state"),
                (made(count), f"{count} directions"),
            ):
                rows.append(
                    {
                        "hookpoint": at,
                        "patch": said,
                        "scale": 1.0,
                        "closed": round(development.closed({at: patch}), 4),
                        "chosen": False,
                    }
                )
    best = max(rows[1::2], key=lambda row: row["closed"])
    best["chosen"] = True
    session.update_recipe(hookpoint=best["hookpoint"], scale=recipe.scale)
    return rows


def choose_numbers(session: ExtractionContext, candidates: Candidates) -> list[Row]:
    """Settle the number of features and the scale where the recipe gives a choice; returns what was tried."""
    recipe = session.recipe
    screen = recipe.screen
    if screen is None or not (screen.features or screen.scales):
        return []
    rows: list[Row] = []
    where = " + ".join(recipe.all_hookpoints)
    with session.ledger.stage(STAGE):
        development = _development(session)
        session.update_recipe(scale=1.0)
        for count in sorted(screen.features or (recipe.features,)):
            made = candidates.patches(count)
            for scale in screen.scales or (recipe.scale,):
                closed = development.closed({at: _scaled(patch, scale) for at, patch in made.items()})
                said = {
                    "hookpoint": where,
                    "patch": f"{count} {candidates.noun}",
                    "scale": scale,
                    "closed": round(closed, 4),
                    "chosen": False,
                }
                rows.append(said | {"count": count})
    most = max(row["closed"] for row in rows)
    enough = min(row["count"] for row in rows if row["closed"] >= SUFFICIENT_SHARE * most or row["closed"] == most)
    best = max((row for row in rows if row["count"] == enough), key=lambda row: row["closed"])
    best["chosen"] = True
    session.update_recipe(features=best["count"], scale=best["scale"])
    return [{key: value for key, value in row.items() if key != "count"} for row in rows]


def tell(session: ExtractionContext, rows: list[Row]) -> None:
    """The table, before training."""
    if rows:
        session.progress.say(f"  {'hookpoint':<20} {'patch':<16} {'scale':>5}  {'KL closed':>9}")
    for row in rows:
        mark = "  <- chosen" if row["chosen"] else ""
        session.progress.say(
            f"  {row['hookpoint']:<20} {row['patch']:<16} {row['scale']:>5g}  {100 * row['closed']:>8.1f}%{mark}"
        )


def _development(session: ExtractionContext) -> Development:
    if session.development is None:
        session.development = Development(session)
    return session.development


def _scaled(patch: Patch, scale: float) -> Patch:
    return lambda other, own: scale * patch(other, own)
