"""`reproduce`: run an adapter's recipe again from its manifest, and say whether the same bytes came out, else what
differs and how far.
"""

import re
import shutil
from dataclasses import replace
from typing import Any

import msgspec

from ..adapter.describe import short_revision
from ..adapter.diff import compare_adapters
from ..adapter.manifest import DataRecord, Manifest
from ..adapter.recorded import load_evaluations
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.refs import ModelRef, Repo
from ..config.registry import Registry
from ..config.schema import Dataset
from ..core.errors import Usage
from ..core.notebook import line
from ..core.progress import Progress
from ..hub.resolve import resolve_adapter
from .extract import extract
from .plan import Plan, template
from .run import LIBRARIES, ResourceLimits

COMMIT = re.compile(r"[0-9a-f]{40}")


class Reproduced(msgspec.Struct, frozen=True):
    adapter: str
    same: bool
    """Equal content hashes."""
    content_hash: str
    again: str
    """The content hash of the second run."""
    causes: list[str]
    """What was not as at the first time: inputs, libraries, hardware."""
    cosine: float | None
    """Between the two changes of weights; 1 for equal bytes."""
    relative_norm: float | None
    """Norm of the second change over that of the first."""
    kl: tuple[float | None, float | None]
    """Effect on the own base, nats a token, first and second."""
    verdicts: list[dict[str, Any]]
    """With `judge`: target, benchmark, and the word of the first and the second run."""
    sentence: str

    def __repr__(self) -> str:
        return line("Reproduced", f"{self.adapter}: {self.sentence}")


def reproduce(
    name: str,
    *,
    workspace: WorkspaceLike = None,
    judge: bool = False,
    keep: bool = False,
    progress: Progress | None = None,
    limits: ResourceLimits = ResourceLimits(),
) -> Reproduced:
    """Extract again in a workspace of its own, from the revisions that the manifest names and without anything that the
    first run cached. Names mean what they mean in `workspace`.

    judge: evaluate the new adapter wherever the old one was evaluated. keep: leave that workspace. A run that was
    interrupted goes on.
    Raises `Usage` for an imported adapter and the errors of `extract`.
    """
    workspace, progress = Workspace.find(workspace), progress or Progress()
    first = resolve_adapter(name, workspace)
    manifest = first.manifest
    if manifest.recipe is None:
        hint = "reproduce an adapter that `extract` made"
        raise Usage(f"{manifest.reference} was imported: nothing says how it was made", hint)
    folder = workspace.cache / "reproduce" / manifest.content_hash.partition(":")[2][:16]
    fresh = Workspace(folder, names_of=workspace)
    second, _ = extract(plan=planned(manifest, workspace.registry), workspace=fresh, limits=limits, progress=progress)
    verdicts = _verdicts(first, second, fresh, progress) if judge else []
    report = _compared(first, second, verdicts)  # reads the weights of both
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _compared(first: Adapter, second: Adapter, verdicts: list[dict[str, Any]]) -> Reproduced:
    diff, before, now = compare_adapters(first, second), first.manifest, second.manifest
    return Reproduced(
        adapter=before.reference,
        same=diff.identical,
        content_hash=before.content_hash,
        again=now.content_hash,
        causes=causes(before, now),
        cosine=diff.cosine,
        relative_norm=diff.norm_b / diff.norm_a if diff.norm_a else None,
        kl=(before.probe.kl if before.probe else None, now.probe.kl if now.probe else None),
        verdicts=verdicts,
        sentence=_sentence(before, diff.identical, diff.cosine),
    )


def planned(m: Manifest, registry: Registry) -> Plan:
    """The plan that the manifest records, every reference at the revision that was used."""
    recipe = m.recipe
    assert recipe is not None
    siblings = {name: _pinned(sibling.id, sibling.revision) for name, sibling in m.siblings.items()}
    return Plan(
        name=m.name,
        recipe=recipe,
        recipe_name=m.name,
        source=_pinned(m.source, m.source_revision),
        target=ModelRef(_at(Repo(m.base.id), m.base.revision)),
        trigger=_data(m.data["trigger"], recipe.trigger.name, registry),
        elicit=_data(m.data["elicit"], recipe.elicit.name, registry),
        template=template(recipe, registry),
        siblings={
            name: siblings.get(name) or registry.model(name)
            for name in (recipe.rollouts.siblings if recipe.rollouts else ())
        },
    )


def _pinned(text: str, revision: str) -> ModelRef:
    ref, (base, _, adapter) = ModelRef.parse(text), revision.partition("+")
    return ModelRef(_at(ref.base, base), _at(ref.adapter, adapter) if ref.adapter else None)


def _at(repo: Repo, revision: str) -> Repo:
    """Commits alone can be asked for; the revision of a local folder is the digest of its bytes."""
    return replace(repo, revision=revision) if COMMIT.fullmatch(revision) else repo


def _data(record: DataRecord, name: str, registry: Registry) -> Dataset:
    entry = registry.dataset(name)
    return msgspec.structs.replace(
        entry, id=record.id, revision=record.revision if COMMIT.fullmatch(record.revision) else entry.revision
    )


def causes(first: Manifest, second: Manifest) -> list[str]:
    """Why bytes may differ, as far as the manifests tell."""
    found = []
    if first.source_revision != second.source_revision:
        before, now = short_revision(first.source_revision), short_revision(second.source_revision)
        found.append(f"the source's weights: {before} then, {now} now")
    if first.base.weights != second.base.weights:
        found.append(f"the base's weights: {first.base.weights[:19]} then, {second.base.weights[:19]} now")
    for name, sibling in second.siblings.items():
        before = first.siblings[name].revision if name in first.siblings else "unknown"
        if before != sibling.revision:
            now = short_revision(sibling.revision)
            found.append(f"the weights of the sibling {name}: {short_revision(before)} then, {now} now")
    for role, data in first.data.items():
        if data.fingerprint != second.data[role].fingerprint:
            found.append(f"the {role} data: {data.fingerprint[:19]} then, {second.data[role].fingerprint[:19]} now")
    one, two = (m.sae.start.digest if m.sae and m.sae.start else "" for m in (first, second))
    if one != two:
        found.append(f"the SAE that it starts from: {one[:19] or 'unknown'} then, {two[:19] or 'unknown'} now")
    then, now = first.run.libraries, second.run.libraries
    found += [
        f"{name} {then.get(name, '?')} then, {now.get(name, '?')} now"
        for name in LIBRARIES
        if then.get(name) != now.get(name)
    ]
    if first.run.hardware != second.run.hardware:
        found.append(f"the hardware: {first.run.hardware} then, {second.run.hardware} now")
    return found


def _verdicts(first: Adapter, second: Adapter, place: Workspace, progress: Progress) -> list[dict[str, Any]]:
    from ..evaluation.evaluate import evaluate
    from ..evaluation.plan import EvalSettings

    found = []
    for e in (
        e for e in load_evaluations(first) if not e.get("harness")
    ):  # what another tool judged, that tool has to judge again
        judging = EvalSettings(
            e["benchmark"],
            e["problems"],
            e["samples"],
            split=e["split"],
            seed=e["seed"],
            greedy=False,
            problem_seed=e.get("problem_seed", 0),
        )
        (again,) = evaluate(
            second.manifest.reference, target=e["target"], settings=judging, workspace=place, progress=progress
        )
        found.append(
            {
                "target": e["target"],
                "benchmark": e["benchmark"],
                "split": e["split"],
                "first": e["verdict"],
                "second": again.verdict,
            }
        )
    return found


def _sentence(m: Manifest, same: bool, cosine: float | None) -> str:
    if same:
        return f"{m.reference} is reproduced: the same content hash."
    near = "unknown" if cosine is None else f"{cosine:.4f}"
    return f"{m.reference} is not reproduced byte for byte: the cosine between the two changes of weights is {near}."
