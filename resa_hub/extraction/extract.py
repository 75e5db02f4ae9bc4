"""`extract`: plan -> stage I -> stage II -> artifact. The plan is made without anything heavy and can be shown
alone.
"""

import contextlib
import shutil
from collections.abc import Sequence
from typing import Any

import msgspec

from ..adapter import card
from ..adapter.layout import CARD, MANIFEST, SAE
from ..adapter.store import Adapter, lacks_sae
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.methods import METHODS
from ..config.recipe import AUTO
from ..core import torchrun
from ..core.errors import HubError, NotFound, Usage
from ..core.machine_errors import machine_errors
from ..core.progress import Progress
from ..core.strict import canonical_digest
from ..data import saes
from .checks import check
from .inputs import Inputs, check_kinship, gather_inputs, remarks
from .plan import Plan
from .plan import plan as resolve
from .run import ExtractionRun, ResourceLimits
from .run_dir import Work, hold

NOT_BEGUN, KEPT = "; nothing was begun", ": what was done is kept"


def extract(
    source: str | None = None,
    *,
    workspace: WorkspaceLike = None,
    again: bool = False,
    resume: bool = False,
    limits: ResourceLimits = ResourceLimits(),
    progress: Progress | None = None,
    plan: Plan | None = None,
    **choices: Any,
) -> tuple[Adapter, bool]:
    """Extract an adapter into the store. Returns it and whether it was made now: a finished recipe is not run twice
    unless `again`.

    A run that was interrupted, however it was, goes on where it stood, also with `again`. resume: go on or fail.
    plan: one that was resolved before; else `choices` are those of `extraction.plan.plan`. Raises the errors of the
    plan, `DoesNotFit`, `NoEffect`, `RunFailed`; `Conflict` while another process runs the same; `NotFound` when there
    is nothing to resume.
    """
    workspace, progress = Workspace.find(workspace), progress or Progress()
    plan = plan or resolve(source, registry=workspace.registry, **choices)
    check(plan, workspace)
    limits.check(plan.recipe.method)
    with machine_errors(NOT_BEGUN):
        run = ExtractionRun(gather_inputs(plan, workspace), workspace, limits, progress)
    if torchrun.world_size() == 1:
        return _extract(run, again, resume)
    from ..engine.distributed import init_process_group

    with init_process_group() as processes:
        if processes.is_main_process:
            return _extract(run._replace(processes=processes), again, resume)
        return _run_worker(run._replace(processes=processes, progress=Progress(quiet=True)))


def _extract(run: ExtractionRun, again: bool, resume: bool) -> tuple[Adapter, bool]:
    """What the only process does, or the first of several: it decides, writes and tells the others."""
    digest, name, workspace = run.inputs.digest, run.inputs.plan.name, run.workspace
    present = run.broadcast(None if again else workspace.store.with_recipe(digest, name))
    if present:
        if run.limits.keep_sae and lacks_sae(present):
            run.progress.say(f"  {present.manifest.reference} was made without its SAE: `extract --again` keeps it")
        _discard_finished(workspace, _key(name, digest))
        return present, False
    check_kinship(run.inputs)
    with (
        machine_errors(KEPT),
        workspace.store.staging() as folder,
        hold(workspace.cache / "work", _key(name, digest)) as work,
    ):
        present = None if again else workspace.store.with_recipe(digest, name)
        if present:  # finished meanwhile, or killed on its very last step
            work.discard()
            return run.broadcast(present), False
        if resume:
            check_resumable(run.inputs, workspace)
        run.broadcast(None)  # nothing stands in the way: all begin
        for remark in remarks(run.inputs):
            run.progress.say(f"  {remark}")
        manifest = run.into(folder, work)

        def finish(version: str) -> None:
            numbered = msgspec.structs.replace(manifest, version=version)
            (folder / MANIFEST).write_bytes(numbered.to_json())
            (folder / CARD).write_text(card.render(numbered), encoding="utf-8")
            if not run.limits.keep_sae:
                shutil.rmtree(folder / SAE, ignore_errors=True)

        adapter = workspace.store.add_next(folder, name, finish)
        work.discard()
    return run.broadcast(adapter), True


def _discard_finished(workspace: Workspace, key: str) -> None:
    """Remove the states of a run that was killed between its last two steps, unless another process holds them."""
    if (workspace.cache / "work" / key).exists():
        with contextlib.suppress(HubError, OSError), hold(workspace.cache / "work", key) as work:
            work.discard()


def check_resumable(inputs: Inputs, workspace: Workspace) -> None:
    """Raise `NotFound` where no interrupted run is there to go on from."""
    name = inputs.plan.name
    if not Work(workspace.cache / "work" / _key(name, inputs.digest)).begun:
        missing = f"no interrupted extraction of {name} with this recipe is here"
        raise NotFound(missing, "leave out --resume to begin one")


def _run_worker(run: ExtractionRun) -> tuple[Adapter, bool]:
    """What the other processes do: they compute with the first one and write nothing."""
    from ..engine.run import run_worker

    present = run.broadcast()
    if present is None:
        check_kinship(run.inputs)
        present = run.broadcast()
    if present is not None:
        return present, False
    with machine_errors(KEPT), run.progress.speaking():
        run_worker(run.context(None))
    return run.broadcast(), True


def screen(
    plan: Plan,
    *,
    workspace: WorkspaceLike = None,
    limits: ResourceLimits = ResourceLimits(),
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """What the screen of this plan tries and chooses, nothing trained but the SAE; `extract` of the same plan takes
    over what was done. Raises as `extract`.
    """
    workspace = Workspace.find(workspace)
    check_screen(plan)
    check(plan, workspace)
    with machine_errors(NOT_BEGUN):
        run = ExtractionRun(gather_inputs(plan, workspace), workspace, limits, progress or Progress())
    check_kinship(run.inputs)
    with machine_errors(KEPT), hold(workspace.cache / "work", _key(plan.name, run.inputs.digest)) as work:
        from ..engine import run as engine

        with run.progress.speaking():
            return engine.screen(run.context(work))


def check_screen(plan: Plan) -> None:
    """Raise `Usage` for a recipe that says everything already."""
    tried = plan.recipe.screen
    if plan.recipe.hookpoint != AUTO and not (tried and (tried.features or tried.scales)):
        raise Usage(
            "this recipe leaves nothing open that a screen could choose",
            "--layer auto, --features auto, --scale auto, or --set screen.scales=[1,2]",
        )


def pretrain_saes(
    plans: Sequence[Plan],
    *,
    workspace: WorkspaceLike = None,
    limits: ResourceLimits = ResourceLimits(),
    progress: Progress | None = None,
) -> int:
    """Train the SAEs of several extractions that differ in the hookpoint alone from one pass of the model; `extract` of
    each plan takes over from there.

    Returns how many were trained now: none where the method has no SAE to train, and none that is finished. Raises as
    `extract`.
    """
    workspace, progress = Workspace.find(workspace), progress or Progress()
    if not all(_trains_one_sae(plan) for plan in plans):
        return 0
    for plan in plans:
        check(plan, workspace)
    with machine_errors(NOT_BEGUN):
        first = gather_inputs(plans[0], workspace)
    every = [first._replace(plan=plan, saes=saes.initial_saes(plan.recipe, workspace.registry)) for plan in plans]
    waiting = [inputs for inputs in every if not workspace.store.with_recipe(inputs.digest, inputs.plan.name)]
    if not waiting:
        return 0
    with machine_errors(KEPT), progress.speaking(), contextlib.ExitStack() as stack:
        from ..engine.methods.layers import train_layers
        from ..engine.methods.sae_stage import FINISHED

        contexts = {}
        for inputs in waiting:
            hookpoint = inputs.plan.recipe.hookpoint
            check_kinship(inputs)
            work = stack.enter_context(hold(workspace.cache / "work", _key(inputs.plan.name, inputs.digest)))
            if not (work.folder / f"{FINISHED}{hookpoint}.pt").is_file():
                contexts[hookpoint] = ExtractionRun(inputs, workspace, limits, progress).context(work)
        if contexts:
            starts = {at: context.inputs.initial_saes.get(at) for at, context in contexts.items()}
            ledgers = {at: context.ledger for at, context in contexts.items()}
            train_layers(next(iter(contexts.values())), ledgers, starts)
        return len(contexts)


def _trains_one_sae(plan: Plan) -> bool:
    recipe = plan.recipe
    one_place = len(recipe.all_hookpoints) == 1 and recipe.hookpoint != AUTO
    return METHODS[recipe.method].sae and recipe.sae.mode != "pretrained" and one_place


def _key(name: str, digest: str) -> str:
    """Name of the work folder; the states of another version of this program are not read."""
    from importlib.metadata import version

    return f"{name}-{canonical_digest([digest, version('resa-hub')])[7:23]}"
