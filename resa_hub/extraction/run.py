"""One run of the engine for an extraction, and the manifest of what it made."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ..adapter import weight_fingerprint
from ..adapter.layout import content_hash, identity_of, scan
from ..adapter.manifest import DataRecord, Manifest, Run, Sibling
from ..adapter.workspace import Workspace
from ..config.methods import METHODS
from ..core.errors import Usage
from ..core.progress import Progress
from ..data.snapshots import Rows
from .inputs import Inputs
from .run_dir import Work, seconds_between_states

if TYPE_CHECKING:
    from ..engine.cost_tracker import CostTracker
    from ..engine.distributed import ProcessGroup
    from ..engine.methods.context import ExtractionContext
    from ..engine.run import ExtractionResult
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
    keep_sae: bool = True
    """Whether the adapter keeps its SAE; without it the manifest still says what it was."""

    def check(self, method: str) -> None:
        """Raise `Usage` for a limit on something that the method does not keep."""
        spec = METHODS[method]
        if self.memory is not None and not spec.teacher:
            raise Usage(f"--cache-gb has no effect with {method}: it has no teacher's states to keep", "leave it out")
        if self.disk and not spec.sae:
            raise Usage(f"--disk-gb has no effect with {method}: it trains no SAE", "leave it out")
        if not self.keep_sae and not spec.sae:
            raise Usage(f"--no-sae has no effect with {method}: it has no SAE", "leave it out")


class ExtractionRun(NamedTuple):
    inputs: Inputs
    workspace: Workspace
    limits: ResourceLimits
    progress: Progress
    processes: "ProcessGroup | None" = None
    """Those of torchrun; None: this one alone."""

    def broadcast(self, value: Any = None) -> Any:
        """What the first process says."""
        return self.processes.broadcast(value) if self.processes else value

    def into(self, folder: Path, work: Work) -> Manifest:
        """Extract into an empty folder; the manifest's version is still to be given."""
        from ..engine.cost_tracker import TOTAL
        from ..engine.run import make

        context = self.context(work)
        with context.ledger.stage(TOTAL), self.progress.speaking():
            result = make(context, self.inputs.target[0], folder)
        return self._manifest(folder, result, context.ledger)

    def _manifest(self, folder: Path, result: "ExtractionResult", ledger: "CostTracker") -> Manifest:
        from ..engine.model.loading import Source

        plan, recipe, (source, lora) = self.inputs.plan, self.inputs.plan.recipe, self.inputs.source
        entries = scan(folder)
        siblings = self.inputs.siblings.items()
        return Manifest(
            name=plan.name,
            version="0.0.0",
            content_hash=content_hash(entries),
            files=identity_of(entries),
            method=recipe.method,
            hookpoint=result.hookpoint,
            base=weight_fingerprint.describe_base(self.inputs.target[0]),
            probe=result.probe,
            source=str(plan.source),
            source_revision=Source(source, lora).revision,
            sae=result.sae,
            data={"trigger": _record(self.inputs.trigger), "elicit": _record(self.inputs.elicit)},
            recipe=recipe,
            recipe_digest=self.inputs.digest,
            seed=recipe.seed,
            parents=(lora.weights_digest,) if lora else (),
            siblings={name: Sibling(str(plan.siblings[name]), Source(*files).revision) for name, files in siblings},
            run=self._record(result, ledger),
        )

    def _record(self, result: "ExtractionResult", ledger: "CostTracker") -> Run:
        """When, on what and at which cost."""
        from importlib.metadata import version

        from ..engine.backends import settings
        from ..engine.cost_tracker import TOTAL
        from ..engine.run import hardware

        seconds, rate = ledger.costs[TOTAL].seconds, self.limits.rate
        source = self.workspace.registry.model_entry(self.inputs.plan.recipe.source)
        costs = {
            name: msgspec.structs.replace(cost, seconds=round(cost.seconds, 2)) for name, cost in ledger.costs.items()
        }
        return Run(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 1),
            tokens=result.tokens,
            stages={name: cost.seconds for name, cost in costs.items() if name != TOTAL},
            hardware=hardware(),
            libraries={name: version(name) for name in LIBRARIES},
            numerics=settings(),
            findings=result.findings,
            costs=costs,
            usd=None if rate is None else round(seconds / 3600 * rate, 6),
            source_usd=source.cost_usd if source else None,
            source_note=source.cost_note if source else "",
        )

    def context(self, work: Work | None) -> "ExtractionContext":
        """The engine's side of the run; work: where its states are kept, None: nowhere."""
        from ..engine.cost_tracker import CostTracker
        from ..engine.distributed import SINGLE_PROCESS
        from ..engine.methods.context import ExtractionContext
        from ..engine.methods.inputs import MethodInputs, RunResources
        from ..engine.model.loading import Source

        folder, processes = work.folder if work else None, self.processes or SINGLE_PROCESS
        inputs = MethodInputs(
            source=Source(*self.inputs.source),
            target=Source(*self.inputs.target),
            trigger=self.inputs.trigger,
            elicit=self.inputs.elicit,
            template=self.inputs.plan.template,
            siblings={name: Source(*files) for name, files in self.inputs.siblings.items()},
            initial_saes=self.inputs.saes,
            reference=self.inputs.reference,
        )
        resources = RunResources(
            progress=self.progress,
            ledger=CostTracker(folder, seconds_between_states(), processes),
            rollouts_folder=self.workspace.cache / "rollouts",
            memory=self.limits.memory,
            disk=self.limits.disk,
        )
        return ExtractionContext(self.inputs.plan.recipe, inputs, resources)


def _record(rows: Rows) -> DataRecord:
    return DataRecord(
        name=rows.name,
        id=rows.id,
        revision=rows.revision,
        fingerprint=rows.fingerprint,
        rows=len(rows.pairs),
        dropped=len(rows.lacking),
    )
