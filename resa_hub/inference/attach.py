"""`attach`: put an adapter on a model, prove that it takes effect, and generate.

The steps: resolve the names, verify the bytes, assess the fit, load, measure the effect, generate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..adapter.fit import Fit, check_sizes
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.remotes import RemoteRef, parse_adapter
from ..core.errors import Integrity, NoEffect, Usage
from ..core.files import check_can_hold, check_free
from ..core.notebook import card, line, table
from ..core.quantities import count
from ..data.at_hand import at_hand
from ..data.own_models import model_config
from ..data.snapshots import Files, locate
from ..data.token_counts import counts
from ..hub.resolve import AdapterChoice, FittedAdapter, choose_adapter, chosen_adapter, fitting_adapter

if TYPE_CHECKING:
    from ..engine.model.probe import Effect

TOLERANCE = 0.01
"""How far the effect on the adapter's own base may lie from the recorded one, as a share of it."""
MOST_TEMPERATURE, MOST_TOKENS = 10.0, 1_000_000
FLOOR_SHARE = 0.01
"""On another target the effect must exceed this share of the recorded one, and what rounding alone does there."""


class Proof(NamedTuple):
    """KL(with || without adapter) in nats a token on the manifest's probe texts."""

    kl: float
    recorded: float | None
    """None for an adapter that was imported without its base at hand."""
    floor: float | None
    """None on the exact base, where the recorded value itself is the test."""


@dataclass(frozen=True)
class Attached:
    adapter: Adapter
    target: str
    fit: Fit
    proof: Proof
    completions: tuple[str, ...]
    merged: Path | None = None
    """Where the whole model, adapter included, was written."""

    def __repr__(self) -> str:
        answers = count(len(self.completions), "completion")
        effect = f"KL {self.proof.kl:.3g} nats a token"
        return line(
            "Attached", f"{self.adapter.manifest.reference} to {self.target}, {self.fit.level}, {effect}, {answers}"
        )

    def _repr_html_(self) -> str:
        told = {
            "fit": f"{self.fit.level}: {self.fit.reason}",
            "effect": f"KL {self.proof.kl:.4g} nats a token",
            "merged": str(self.merged or ""),
        }
        answers = table([{"completion": text} for text in self.completions]) if self.completions else ""
        return card(f"{self.adapter.manifest.reference} on {self.target}", told, answers)


def attach(
    name: str | None = None,
    *,
    target: str,
    prompts: Sequence[str] = (),
    workspace: WorkspaceLike = None,
    force: bool = False,
    temperature: float = 0.0,
    new_tokens: int = 256,
    seed: int = 0,
    merge: str | Path | None = None,
) -> Attached:
    """Put an adapter on a target, prove that it took effect, and complete the prompts.

    name: any name of an adapter; None takes the registry's default for the target, or the only one that fits. force:
    attach to unrelated weights of the same shapes too. merge: a new folder for the target with the adapter added to its
    weights, for programs that know no adapters. Nothing heavy is imported before the fit is known. Raises `NotFound`,
    `Usage`, `DoesNotFit`, `Integrity`, `NoEffect`, `Network`.
    """
    workspace = Workspace.find(workspace)
    generation = {"temperature": temperature, "new_tokens": new_tokens}
    checked = {"prompts": prompts, "force": force, "merge": merge}
    seen = preview(name, target=target, workspace=workspace, **checked, **generation)
    files = locate(seen.choice.target.base)
    here = seen.fitted if seen.files and seen.files.folder == files.folder else None
    adapter, fit = here or fitting_adapter(seen.choice, workspace, files, force)

    from ..engine.model.attached import open_attached
    from ..engine.model.probe import DTYPE

    entry = workspace.registry.model_entry(target)
    session = open_attached(files, adapter.folder, adapter.manifest.dtype, entry.template if entry else None)
    probe = adapter.manifest.probe
    effect = session.effect(adapter.manifest.probe_texts, probe.dtype if probe else DTYPE)
    proof = prove(effect, adapter, fit, target)
    completions = session.complete(prompts, seed=seed, **generation)
    merged = session.merge(Path(merge)) if merge is not None else None
    return Attached(adapter, target, fit, proof, completions, merged)


class AttachPreview(NamedTuple):
    choice: AdapterChoice
    files: Files | None
    """The target's, where it is here."""
    fitted: FittedAdapter | None
    """None where adapter or target are not here."""
    left: list[str]
    """What is checked when it is fetched."""


def preview(
    name: str | None,
    *,
    target: str,
    workspace: Workspace,
    prompts: Sequence[str] = (),
    force: bool = False,
    temperature: float = 0.0,
    new_tokens: int = 256,
    merge: str | Path | None = None,
) -> AttachPreview:
    """What is known of an attach before anything is fetched or loaded. Raises as `attach`."""
    if not 0 <= temperature <= MOST_TEMPERATURE:
        raise Usage(f"a temperature of {temperature:g} cannot be", f"--temperature between 0 and {MOST_TEMPERATURE:g}")
    if not 1 <= new_tokens <= MOST_TOKENS:
        raise Usage(f"{new_tokens:,} new tokens cannot be asked for", f"--new-tokens between 1 and {MOST_TOKENS:,}")
    if merge is not None:
        check_free(Path(merge))
        check_can_hold(Path(merge))
    choice = choose_adapter(name, target, workspace.registry)
    elsewhere = choice.name is not None and isinstance(parse_adapter(choice.name), RemoteRef)
    stored = None if elsewhere else chosen_adapter(choice, workspace)
    config = model_config(choice.target, target, workspace.registry)
    if stored:
        check_sizes(stored.manifest.base, config, stored.manifest.reference, target)
    files = at_hand(choice.target.base)
    if files is None or elsewhere:
        left = [f"the adapter {choice.name}"] if elsewhere else []
        return AttachPreview(choice, files, None, [*left, f"whether it fits {target}"])
    fitted = fitting_adapter(choice, workspace, files, force)
    if prompts:
        counts(files.folder, prompts, "the prompt", error=Usage)
    return AttachPreview(choice, files, fitted, [])


def prove(effect: "Effect", adapter: Adapter, fit: Fit, target: str) -> Proof:
    """Hold the measured effect against the recorded one; raises `NoEffect` when the adapter did not take, or does no
    more than rounding.
    """
    probe, reference, kl = adapter.manifest.probe, adapter.manifest.reference, effect.kl
    recorded = probe.kl if probe else None
    if recorded is not None and not recorded > 0:
        raise Integrity(
            f"{reference} records no effect on its own base", "its manifest is broken: pull or extract it again"
        )
    if fit.level == "exact" and recorded is not None:
        if abs(kl - recorded) > TOLERANCE * recorded + effect.noise:
            raise NoEffect(
                f"{reference} moves its own base {target} by {kl:.3g} nats a token, not by the recorded {recorded:.3g}",
                "library versions may differ from the manifest's: compare with `resa-hub show`, or extract it again",
            )
        return Proof(kl, recorded, None)
    if effect.is_rounding:
        raise NoEffect(
            f"{reference} moves {target} by {kl:.3g} nats a token, as little as rounding does ({effect.noise:.2g})",
            "extract an adapter for this target",
        )
    floor = max(effect.noise, FLOOR_SHARE * (recorded or 0.0))
    if kl < floor:
        raise NoEffect(
            f"{reference} moves {target} by {kl:.3g} nats a token, below the floor of {floor:.3g}",
            "extract an adapter for this target",
        )
    return Proof(kl, recorded, floor)
