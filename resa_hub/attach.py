"""`attach`: resolve -> verify -> does it fit -> load -> prove the effect -> generate."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .adapter import compat
from .adapter.compat import Fit
from .adapter.store import Adapter, Store
from .adapter.verify import verify
from .adapters import find
from .errors import Integrity, NoEffect, NotFound, Usage
from .refs import AdapterRef, ModelRef, parse_adapter
from .registry import Registry
from .sources import Files, locate
from .workspace import Workspace

TOLERANCE = 0.01
"""How far the effect on the adapter's own base may lie from the recorded one, as a share of it."""
FLOOR_SHARE, FLOOR = 0.01, 1e-6
"""On another target the effect must exceed 1% of the recorded one, and 1e-6 nats a token."""


class Proof(NamedTuple):
    """KL(with || without adapter) in nats a token on the manifest's probe texts."""

    kl: float
    recorded: float | None
    """None for an adapter that was imported without its base at hand."""
    floor: float | None
    """None on the exact base, where the recorded value itself is the test."""


class Candidate(NamedTuple):
    adapter: Adapter
    fit: Fit


@dataclass(frozen=True)
class Attached:
    adapter: Adapter
    target: str
    fit: Fit
    proof: Proof
    completions: tuple[str, ...]
    merged: Path | None = None
    """Where the whole model, adapter included, was written."""


class Choice(NamedTuple):
    """An adapter for a target, before anything is fetched or loaded."""

    target: ModelRef
    target_name: str
    name: str | None
    """None: whichever adapter of the store fits."""
    why: str


def choose(name: str | None, target: str, registry: Registry) -> Choice:
    """What the names stand for; raises `NotFound` for an unknown target, `Usage` for one that is itself an adapter."""
    ref = registry.bare(target)
    if name:
        return Choice(ref, target, str(parse_adapter(name)), "named")
    entry = registry.model_entry(target)
    if entry and entry.default_adapter:
        return Choice(ref, target, entry.default_adapter, "the registry's default for this target")
    return Choice(ref, target, None, "whichever adapter of the store fits")


def candidates(store: Store, target: Files) -> list[Candidate]:
    """Every adapter of the store with its fit to a target, the latest version of each name, best first."""
    found = []
    for name in store.names():
        with contextlib.suppress(Integrity, NoEffect, NotFound):  # `list` and `verify` tell of a broken one; it hides no other
            adapter = store.get(AdapterRef(name))
            found.append(Candidate(adapter, compat.assess(adapter.manifest.base, compat.read_lora(adapter.folder), target)))
    order = {"exact": 0, "kin": 1, "distant": 2, "foreign": 3}
    return sorted(found, key=lambda c: (order[c.fit.level], c.adapter.manifest.name))


def resolve(choice: Choice, home: Workspace) -> Adapter | None:
    """The adapter if the choice names one; raises `NotFound` naming extract and pull when the store does not have it."""
    if choice.name is None:
        if not home.store.names():
            raise NotFound(f"no adapter in {home.store.root}", "make one with `resa-hub extract`, or fetch one with `resa-hub pull`")
        return None
    try:
        return find(choice.name, home)
    except NotFound as error:
        if choice.why == "named":
            raise
        raise NotFound(f"{choice.name}, {choice.why}, is not in the store ({error.message})", _how_to_get(choice.name, home.registry)) from None


def _how_to_get(name: str, registry: Registry) -> str:
    recipe = f"`resa-hub extract --recipe {name}`" if name in registry.entries["recipes"] else "`resa-hub extract`"
    return f"make it with {recipe}, or fetch it with `resa-hub pull hf:OWNER/{name}`"


def fitting(choice: Choice, home: Workspace, target: Files, force: bool = False, *, zero: bool = False) -> tuple[Adapter, Fit]:
    """The adapter and how it fits, checked byte for byte; raises `DoesNotFit`, `NoEffect`, `Integrity`, and `Usage` where several fit.

    zero: one whose weights are zero is taken too, as in `read_lora`.
    """
    adapter = resolve(choice, home)
    if adapter is None:
        usable = [c for c in candidates(home.store, target) if c.fit.usable]
        if not usable:
            raise NotFound(f"no adapter in {home.store.root} fits {choice.target_name}", "make one with `resa-hub extract`, or fetch one with `resa-hub pull`")
        if len(usable) > 1:
            listed = ", ".join(f"{c.adapter.manifest.name} ({c.fit.level})" for c in usable)
            raise Usage(f"several adapters fit {choice.target_name}: {listed}", "name one of them")
        adapter = usable[0].adapter
    verify(adapter.folder)
    lora = compat.read_lora(adapter.folder, zero)
    fit = compat.assess(adapter.manifest.base, lora, target)._replace(zero=lora.zero)
    compat.require(fit, adapter.manifest.reference, choice.target_name, force)
    return adapter, fit


def attach(
    name: str | None = None,
    *,
    target: str,
    prompts: Sequence[str] = (),
    workspace: str | Path | None = None,
    force: bool = False,
    temperature: float = 0.0,
    new_tokens: int = 256,
    seed: int = 0,
    merge: str | Path | None = None,
) -> Attached:
    """Put an adapter on a target, prove that it took effect, and complete the prompts.

    merge: a new folder for the target with the adapter added to its weights, for programs that know no adapters.
    Nothing heavy is imported before the fit is known. Raises `NotFound`, `Usage`, `DoesNotFit`, `Integrity`, `NoEffect`, `Network`.
    """
    home = Workspace.find(workspace)
    if merge is not None and Path(merge).exists():
        raise Usage(f"{merge} exists", "name a new folder for the merged model")
    choice = choose(name, target, home.registry)
    resolve(choice, home)  # a missing adapter is said before the target is fetched
    files = locate(choice.target.base)
    adapter, fit = fitting(choice, home, files, force)

    from .engine.attached import open_attached

    entry = home.registry.model_entry(target)
    session = open_attached(files, adapter.folder, adapter.manifest.dtype, entry.template if entry else None)
    proof = prove(session.effect(adapter.manifest.probe_texts), adapter, fit, target)
    completions = session.complete(prompts, temperature=temperature, new_tokens=new_tokens, seed=seed)
    merged = session.merge(Path(merge)) if merge is not None else None
    return Attached(adapter, target, fit, proof, completions, merged)


def prove(kl: float, adapter: Adapter, fit: Fit, target: str) -> Proof:
    """Hold the measured effect against the recorded one; raises `NoEffect` when the adapter did not take."""
    probe, reference = adapter.manifest.probe, adapter.manifest.reference
    recorded = probe.kl if probe else None
    if recorded is not None and not recorded > 0:
        raise Integrity(f"{reference} records no effect on its own base", "its manifest is broken: pull or extract it again")
    if fit.level == "exact" and recorded is not None:
        if abs(kl - recorded) > TOLERANCE * recorded:
            raise NoEffect(
                f"{reference} moves its own base {target} by {kl:.3g} nats a token, not by the recorded {recorded:.3g}",
                "library versions may differ from the manifest's: compare with `resa-hub show`, or extract it again",
            )
        return Proof(kl, recorded, None)
    floor = max(FLOOR, FLOOR_SHARE * (recorded or 0.0))
    if kl < floor:
        raise NoEffect(f"{reference} moves {target} by {kl:.3g} nats a token, below the floor of {floor:.3g}", "extract an adapter for this target")
    return Proof(kl, recorded, floor)
