"""Adapters from elsewhere are imported with what is known of them; ours are exported as plain PEFT folders."""

import json
import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ..adapter import card, untrusted, weight_fingerprint
from ..adapter.fit import assess_fit, read_lora, require_fit
from ..adapter.layout import CARD, CONFIG, MANIFEST, SAE, WEIGHTS, FileEntry, content_hash, identity_of, scan
from ..adapter.manifest import PROBE_TEXTS, Base, Manifest, Probe, Run, Sketch
from ..adapter.store import Adapter
from ..adapter.verify import verify_folder
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.refs import AdapterRef, Repo, check_name
from ..core.errors import HubError, NotFound, RunFailed, Usage, did_you_mean
from ..core.files import check_free, read_bounded, read_json
from ..data.snapshots import SAE_FORMATS, Files, locate
from ..hub.transfer import copy_verified, sha256_of

METHOD = "imported"


def import_adapter(
    origin: str, *, name: str | None = None, base: str | None = None, workspace: WorkspaceLike = None
) -> tuple[Adapter, str]:
    """Take a plain PEFT LoRA into the store; returns it and, in words, what is not known of it.

    origin: `./folder`, `owner/name@revision:subfolder`, or a registry name such as tina-still. base: the model it
    stands on; its config says so otherwise. Where the base is at hand nothing is unknown: the effect is measured.
    Raises `NotFound`, `Integrity` and `NoEffect` for what is no sound LoRA, `DoesNotFit` for another base, `Network`.
    """
    workspace = Workspace.find(workspace)
    repo = _repo(origin, workspace)
    name = check_name(name or _default_name(repo, origin))
    files = locate(repo, "adapter")
    with workspace.store.staging() as folder:
        _copy_adapter(files, folder)
        untrusted.check_files(folder)
        lora, config = read_lora(folder), read_json(folder / CONFIG)
        model, unknown = _base_files(base, config, workspace)
        if model:
            require_fit(assess_fit(None, lora, model), origin, model.id)
        entries = scan(folder)

        def finish(version: str) -> None:
            manifest = _manifest(
                reference=AdapterRef(name, version),
                entries=entries,
                base=weight_fingerprint.describe_base(model) if model else _unknown_base(base, config),
                probe=_probe(model, folder),
                revision=files.revision,
                findings={"origin": str(repo), "revision": files.revision, "rank": lora.rank},
            )
            (folder / MANIFEST).write_bytes(manifest.to_json())
            (folder / CARD).write_text(card.render(manifest), encoding="utf-8")

        present = _present(workspace, name, content_hash(entries))
        adapter = present or workspace.store.add_next(folder, name, finish)
    return adapter, unknown


def _manifest(
    *,
    reference: AdapterRef,
    entries: tuple[FileEntry, ...],
    base: Base,
    probe: Probe | None,
    revision: str,
    findings: dict[str, Any],
) -> Manifest:
    """The manifest of an adapter that no recipe of ours made."""
    run = Run(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        tokens=0,
        stages={},
        hardware="",
        libraries={"resa-hub": metadata.version("resa-hub")},
        findings=findings,
    )
    return Manifest(
        name=reference.name,
        version=str(reference.version),
        content_hash=content_hash(entries),
        files=identity_of(entries),
        method=METHOD,
        hookpoint="",
        base=base,
        probe=probe,
        source="",
        source_revision=revision,
        sae=None,
        data={},
        recipe=None,
        recipe_digest="",
        seed=0,
        parents=(),
        run=run,
    )


def _repo(origin: str, workspace: Workspace) -> Repo:
    """Where the adapter lies; raises `Usage` for the registry's name of a base model."""
    entry = workspace.registry.model_entry(origin)
    if entry is None:
        return Repo.parse(origin)
    if entry.adapter is None:
        raise Usage(
            f"{origin} is a model, not an adapter", "name an adapter, as ./folder or owner/name@revision:subfolder"
        )
    return entry.adapter.repo


def _default_name(repo: Repo, origin: str) -> str:
    """The last part of where it lies, in the characters of a name."""
    place = repo.subfolder or repo.id if "/" in origin else origin
    last = place.rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9._-]", "-", last).strip("._-") or METHOD


def _copy_adapter(files: Files, folder: Path) -> None:
    """Copy config and weights, nothing else of what lies there; raises `NotFound` where there are no weights."""
    if not (files.folder / WEIGHTS).is_file():
        raise NotFound(
            f"{files.id} has no {WEIGHTS}", "only safetensors are read, never pickles: save it again with a newer PEFT"
        )
    for part in (CONFIG, WEIGHTS):
        shutil.copyfile((files.folder / part).resolve(), folder / part)  # the Hub's cache holds links
    read_bounded(folder / CONFIG)


def _base_files(base: str | None, config: Any, workspace: Workspace) -> tuple[Files | None, str]:
    """The base's files, or None and why they are not at hand; an error of a base that the caller names is raised."""
    name = base or config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        return None, "its base is not named: give --base MODEL"
    try:
        repo = workspace.registry.require_base_model(workspace.registry.name_of_base(name), "--base").base
    except HubError:
        if base:
            raise
        return None, f"its base {name!r} is no name of a base model: give --base MODEL"
    revision = config.get("revision")
    if not base and not repo.revision and isinstance(revision, str):
        repo = Repo(repo.id, revision)
    try:
        return locate(repo), ""
    except HubError as error:
        if base:
            raise
        return None, f"its base {name} is not at hand ({error.message}): fit and effect are not known"


def _unknown_base(base: str | None, config: dict[str, Any]) -> Base:
    """The record of a base that is not at hand: its name and revision as far as anybody says."""
    name, revision = base or config.get("base_model_name_or_path"), config.get("revision")
    return Base(
        id=name if isinstance(name, str) else "",
        revision=revision if isinstance(revision, str) else "",
        weights="",
        config="",
        tokenizer="",
        chat_template="",
        shapes={},
        sketch=Sketch(tensors=0, values=""),
    )


def _probe(model: Files | None, folder: Path) -> Probe | None:
    """The adapter's effect on its base; None without the base."""
    if model is None:
        return None
    from ..engine.model.probe import effect

    return Probe(texts=PROBE_TEXTS, kl=effect(model, folder, PROBE_TEXTS).kl)


def _present(workspace: Workspace, name: str, digest: str) -> Adapter | None:
    """The same adapter, where it was imported under this name before."""
    adapters = workspace.store.readable()[0]
    return next((a for a in adapters if (a.manifest.name, a.manifest.content_hash) == (name, digest)), None)


def export(
    adapter: Adapter, target: Path, *, base: str | None = None, sae: bool = False, sae_format: str = "saelens"
) -> Path:
    """A plain PEFT folder at `target`, every byte checked on the way.

    base: what `base_model_name_or_path` shall say, for stacks that compare it as text. sae: its SAE too, in
    `sae_format` (saelens, or sparsify in float32). Raises `Usage` unless `target` is free, `Integrity`, `RunFailed`
    when the disk refuses.
    """
    if sae_format not in SAE_FORMATS.values():
        raise Usage(f"{sae_format!r} is no format of SAEs", did_you_mean(sae_format, list(SAE_FORMATS.values())))
    if sae_format != "saelens" and not sae:
        raise Usage("a format of the SAE is named, and no SAE asked for", "add --sae")
    check_free(target)
    manifest = verify_folder(adapter.folder)
    if sae and not (adapter.folder / SAE).is_dir():
        raise NotFound(
            f"{manifest.reference} has no SAE here", "it was made without one, or pulled without it: pull it whole"
        )
    entries = [entry for entry in manifest.files if sae or not entry.path.startswith(SAE)]
    staged = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        for entry in entries:
            copy_verified(adapter.folder / entry.path, staged / entry.path, entry.size, sha256_of(entry), entry.path)
        if base is not None:
            _rename_base(staged / CONFIG, base)
        if sae_format == "sparsify":
            _convert_saes(staged / SAE)
        if target.exists():
            target.rmdir()
        os.replace(staged, target)
    except OSError as error:
        raise RunFailed(
            f"cannot write {target}: {error.strerror}", "check the permissions and the free space"
        ) from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target


def _rename_base(path: Path, base: str) -> None:
    config = read_json(path) | {"base_model_name_or_path": base, "revision": None}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _convert_saes(folder: Path) -> None:
    from ..engine.sae.formats import to_sparsify

    for hookpoint in folder.iterdir():
        to_sparsify(hookpoint, hookpoint.name)
