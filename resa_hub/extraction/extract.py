"""`extract`: plan -> stage I -> stage II -> artifact. The plan is made without anything heavy and can be shown
alone.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..adapter import card, sketch
from ..adapter.layout import CARD, MANIFEST, content_hash, identity_of, scan
from ..adapter.manifest import DataRecord, Manifest, Run, Sibling
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.recipe import AUTO, WITH_SAE
from ..core import torchrun
from ..core.errors import NotFound, Usage
from ..core.machine_errors import explained
from ..core.progress import Progress
from ..core.strict import canonical_digest
from ..data import saes
from .inputs import Inputs, check_kinship, gather
from .plan import Plan, plan
from .run_dir import Work, hold, seconds_between_states

if TYPE_CHECKING:
    from ..engine.distributed import ProcessGroup
    from ..engine.methods.context import ExtractionContext
LIBRARIES = ("torch", "transformers", "peft", "sae-lens", "safetensors", "numpy")


@dataclass(frozen=True)
class ResourceLimits:
    """What an extraction may use; nothing here changes its result."""

    memory: int | None = None
    """Bytes for the teacher's states; half of the free memory when nothing is said."""
    disk: int = 0
    """Bytes of disk for activations of stage I that do not fit its buffer; they are computed anew at each pass without
    it.
    """
    rate: float | None = None
    """Price of this machine, USD an hour."""


def extract(
    source: str | None = None,
    *,
    workspace: str | Path | Workspace | None = None,
    again: bool = False,
    resume: bool = False,
    means: ResourceLimits = ResourceLimits(),
    progress: Progress | None = None,
    made: Plan | None = None,
    **choices: Any,
) -> tuple[Adapter, bool]:
    """Extract an adapter into the store. Returns it and whether it was made now: a finished recipe is not run twice
    unless `again`.

    A run that was interrupted, however it was, goes on where it stood; `again` begins afresh. resume: go on or fail,
    also with `again`. `choices` are those of `plan`. Raises the errors of the plan, `DoesNotFit`, `NoEffect`,
    `RunFailed`; `Conflict` while another process runs the same; `NotFound` when there is nothing to resume.
    """
    workspace, progress = Workspace.find(workspace), progress or Progress()
    chosen = made or plan(source, registry=workspace.registry, **choices)
    with explained("; nothing was begun"):
        inputs = gather(chosen, workspace)
    if torchrun.world_size() == 1:
        return _extract(inputs, workspace, again, resume, means, progress)
    from ..engine.distributed import init_process_group

    with init_process_group() as processes:
        return (
            _extract(inputs, workspace, again, resume, means, progress, processes)
            if processes.is_main_process
            else _run_worker(inputs, workspace, means, processes)
        )


def _extract(
    inputs: Inputs,
    workspace: Workspace,
    again: bool,
    resume: bool,
    means: ResourceLimits,
    progress: Progress,
    processes: "ProcessGroup | None" = None,
) -> tuple[Adapter, bool]:
    """What the only process does, or the first of several: it decides, writes and tells the others."""
    digest, name, agree = inputs.digest, inputs.plan.name, processes.broadcast if processes else lambda value: value
    present = agree(None if again else workspace.store.with_recipe(digest, name))
    if present:
        return present, False
    check_kinship(inputs)
    with (
        explained(": what was done is kept"),
        workspace.store.staging() as folder,
        hold(workspace.cache / "work", _key(name, digest), afresh=again and not resume) as work,
    ):
        present = None if again else workspace.store.with_recipe(digest, name)
        if present:  # finished meanwhile, or killed on its very last step
            work.discard()
            return agree(present), False
        if resume and not work.begun:
            raise NotFound(
                f"no interrupted extraction of {name} with this recipe is here", "leave out --resume to begin one"
            )
        agree(None)  # nothing stands in the way: all begin
        manifest = _run(inputs, digest, folder, workspace, work, means, progress, processes)

        def finish(version: str) -> None:
            numbered = msgspec.structs.replace(manifest, version=version)
            (folder / MANIFEST).write_bytes(numbered.to_json())
            (folder / CARD).write_text(card.render(numbered), encoding="utf-8")

        adapter = workspace.store.add_next(folder, name, finish)
        work.discard()
    return agree(adapter), True


def _run_worker(
    inputs: Inputs, workspace: Workspace, means: ResourceLimits, processes: "ProcessGroup"
) -> tuple[Adapter, bool]:
    """What the other processes do: they compute with the first one and write nothing."""
    from ..engine.run import run_worker

    present = processes.broadcast()
    if present is None:
        check_kinship(inputs)
        present = processes.broadcast()
    if present is not None:
        return present, False
    with explained(": what was done is kept"):
        run_worker(_session(inputs, workspace, None, means, Progress(quiet=True), processes))
    return processes.broadcast(), True


def screen(
    made: Plan,
    *,
    workspace: WorkspaceLike = None,
    means: ResourceLimits = ResourceLimits(),
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """What the screen of this plan tries and chooses, nothing trained but the SAE; `extract` of the same plan takes
    over what was done. Raises as `extract`.
    """
    workspace, progress = Workspace.find(workspace), progress or Progress()
    with explained("; nothing was begun"):
        inputs = gather(made, workspace)
    tried = made.recipe.screen
    if made.recipe.hookpoint != AUTO and not (tried and (tried.features or tried.scales)):
        raise Usage(
            "this recipe leaves nothing open that a screen could choose",
            "--layer auto, --features auto, --scale auto, or --set screen.scales=[1,2]",
        )
    check_kinship(inputs)
    with explained(": what was done is kept"), hold(workspace.cache / "work", _key(made.name, inputs.digest)) as work:
        from ..engine import run as extraction

        return extraction.screen(_session(inputs, workspace, work, means, progress))


def pretrain_saes(
    plans: Sequence[Plan],
    *,
    workspace: WorkspaceLike = None,
    means: ResourceLimits = ResourceLimits(),
    progress: Progress | None = None,
) -> int:
    """Train the SAEs of several extractions that differ in the hookpoint alone from one pass of the model; `extract` of
    each plan takes over from there.

    Returns how many were trained now: none where the method has no SAE to train, and none that is finished. Raises as
    `extract`.
    """
    workspace, progress = Workspace.find(workspace), progress or Progress()
    recipe = plans[0].recipe
    if (
        recipe.method not in WITH_SAE
        or recipe.sae.mode == "pretrained"
        or any(len(p.recipe.all_hookpoints) != 1 or p.recipe.hookpoint == AUTO for p in plans)
    ):
        return 0
    with explained("; nothing was begun"):
        first = gather(plans[0], workspace)
    every = [first._replace(plan=p, saes=saes.starts(p.recipe, workspace.registry)) for p in plans]
    waiting = [i for i in every if not workspace.store.with_recipe(i.digest, i.plan.name)]
    if not waiting:
        return 0
    with explained(": what was done is kept"), contextlib.ExitStack() as stack:
        from ..engine.methods.context import FINISHED
        from ..engine.methods.layers import train_layers

        places, starts = {}, {}
        lead: ExtractionContext | None = None
        for inputs in waiting:
            at = inputs.plan.recipe.hookpoint
            check_kinship(inputs)
            work = stack.enter_context(hold(workspace.cache / "work", _key(inputs.plan.name, inputs.digest)))
            if not (work.folder / f"{FINISHED}{at}.pt").is_file():
                session = _session(inputs, workspace, work, means, progress)
                places[at], starts[at], lead = session.ledger, session.initial_saes.get(at), lead or session
        if lead:
            train_layers(lead, places, starts)
        return len(places)


def _key(name: str, digest: str) -> str:
    """Name of the work folder; the states of another version of this program are not read."""
    from importlib.metadata import version

    return f"{name}-{canonical_digest([digest, version('resa-hub')])[7:23]}"


def _run(
    inputs: Inputs,
    digest: str,
    folder: Path,
    workspace: Workspace,
    work: Work,
    means: ResourceLimits,
    progress: Progress,
    processes: "ProcessGroup | None" = None,
) -> Manifest:
    from importlib.metadata import version

    from ..engine.ledger import TOTAL
    from ..engine.model.loading import Source
    from ..engine.run import hardware, make

    chosen, recipe, source, target = inputs.plan, inputs.plan.recipe, inputs.source, inputs.target
    session = _session(inputs, workspace, work, means, progress, processes)
    ledger = session.ledger
    with ledger.stage(TOTAL):
        made = make(session, target[0], folder)
    total, known = ledger.costs[TOTAL], workspace.registry.model_entry(recipe.source)
    entries = scan(folder)
    return Manifest(
        name=chosen.name,
        version="0.0.0",
        content_hash=content_hash(entries),
        files=identity_of(entries),
        method=recipe.method,
        hookpoint=made.hookpoint,
        base=sketch.describe_base(target[0]),
        probe=made.probe,
        source=str(chosen.source),
        source_revision=Source(*source).revision,
        sae=made.sae,
        data={
            role: DataRecord(
                name=rows.name,
                id=rows.id,
                revision=rows.revision,
                fingerprint=rows.fingerprint,
                rows=len(rows.pairs),
                dropped=rows.dropped,
            )
            for role, rows in (("trigger", inputs.trigger), ("elicit", inputs.elicit))
        },
        recipe=recipe,
        recipe_digest=digest,
        seed=recipe.seed,
        parents=(source[1].weights_digest,) if source[1] else (),
        siblings={
            name: Sibling(str(chosen.siblings[name]), Source(*files).revision)
            for name, files in inputs.siblings.items()
        },
        run=Run(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(total.seconds, 1),
            tokens=made.tokens,
            stages={name: round(cost.seconds, 2) for name, cost in ledger.costs.items() if name != TOTAL},
            hardware=hardware(),
            libraries={name: version(name) for name in LIBRARIES},
            findings=made.findings,
            costs={
                name: msgspec.structs.replace(cost, seconds=round(cost.seconds, 2))
                for name, cost in ledger.costs.items()
            },
            usd=None if means.rate is None else round(total.seconds / 3600 * means.rate, 6),
            source_usd=known.cost_usd if known else None,
            source_note=known.cost_note if known else "",
        ),
    )


def _session(
    inputs: Inputs,
    workspace: Workspace,
    work: Work | None,
    means: ResourceLimits,
    progress: Progress,
    processes: "ProcessGroup | None" = None,
) -> "ExtractionContext":
    from ..engine.distributed import SINGLE_PROCESS
    from ..engine.ledger import CostTracker
    from ..engine.methods.context import ExtractionContext
    from ..engine.model.loading import Source

    recipe = inputs.plan.recipe
    return ExtractionContext(
        recipe,
        Source(*inputs.source),
        Source(*inputs.target),
        inputs.plan.template,
        inputs.trigger,
        inputs.elicit,
        inputs.saes,
        progress,
        ledger=CostTracker(work.folder if work else None, seconds_between_states(), processes or SINGLE_PROCESS),
        rollouts_folder=workspace.cache / "rollouts",
        memory=means.memory,
        disk=means.disk,
        siblings={name: Source(*files) for name, files in inputs.siblings.items()},
        reference=inputs.reference,
    )
