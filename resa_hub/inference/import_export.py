"""Adapters from elsewhere are imported with what is known of them; ours are exported as plain PEFT folders."""

import json
import os
import re
import secrets
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ..adapter import card, untrusted, weight_fingerprint
from ..adapter.fit import assess_fit, read_lora, require_fit
from ..adapter.layout import CARD, CONFIG, MANIFEST, SAE, WEIGHTS, FileEntry, content_hash, identity_of, scan
from ..adapter.manifest import PROBE_TEXTS, Base, Manifest, Probe, Run, Sketch
from ..adapter.store import Adapter
from ..adapter.verify import verify_folder
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.refs import AdapterRef, Repo, check_name, is_path
from ..core.errors import HubError, NoEffect, NotFound, RunFailed, Usage, did_you_mean
from ..core.files import check_free, read_bounded, read_json
from ..data.snapshots import SAE_FORMATS, Files, locate
from ..hub.transfer import copy_verified, sha256_of

METHOD = "imported"


def import_adapter(
    origin: str, *, name: str | None = None, base: str | None = None, workspace: WorkspaceLike = None
) -> tuple[Adapter, str]:
    """Take a plain PEFT LoRA into the store; returns it and, in words, what is not known of it.

    origin: `./folder`, `owner/name@revision:subfolder`, or a registry name such as tina-still. base: the model it
    stands on; the registry or its config says so otherwise. Where the base is at hand nothing is unknown: the effect is
    measured. The same bytes come in once, and once more where more is known of their base.
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
        named = _named_base(base, repo, config, workspace)
        model, unknown = _base_files(named, workspace)
        if model:
            require_fit(assess_fit(None, lora, model), origin, model.id)
        entries = scan(folder)

        def finish(version: str) -> None:
            manifest = _manifest(
                reference=AdapterRef(name, version),
                entries=entries,
                base=weight_fingerprint.describe_base(model) if model else _unknown_base(named),
                probe=_probe(model, folder),
                revision=files.revision,
                findings={"origin": str(repo), "revision": files.revision, "rank": lora.rank},
            )
            (folder / MANIFEST).write_bytes(manifest.to_json())
            (folder / CARD).write_text(card.render(manifest), encoding="utf-8")

        present = _present(workspace, name, content_hash(entries), model)
        adapter = present or workspace.store.add_next(folder, name, finish)
    return adapter, "" if adapter.manifest.probe else unknown


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
    """The last part of where it lies, behind that of its repository, in the characters of a name."""
    parts = [repo.id, repo.subfolder or ""] if "/" in origin else [origin]
    last = "-".join(filter(None, (part.rstrip("/").rpartition("/")[2].lower() for part in parts)))
    return re.sub(r"[^a-z0-9._-]", "-", last).strip("._-")[:96] or METHOD


def _copy_adapter(files: Files, folder: Path) -> None:
    """Copy config and weights, nothing else of what lies there."""
    for part in (CONFIG, WEIGHTS):
        shutil.copyfile((files.folder / part).resolve(), folder / part)  # the Hub's cache holds links
    read_bounded(folder / CONFIG)


class _NamedBase(NamedTuple):
    """The base of an adapter, as somebody names it."""

    name: str
    revision: str | None = None
    asked: bool = False
    """By the caller: that it is not to be had is an error."""
    foreign: bool = False
    """A path of another machine."""


def _named_base(base: str | None, repo: Repo, config: dict[str, Any], workspace: Workspace) -> _NamedBase:
    """What the caller says, else the registry, else the adapter's own config."""
    if base:
        return _NamedBase(base, asked=True)
    if known := workspace.registry.base_of_adapter(repo.id):
        return _NamedBase(known)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    name, revision = (value if isinstance(value, str) else "" for value in (name, revision))
    return _NamedBase(name, revision or None, foreign=is_path(name) and not is_path(repo.id))


def _base_files(named: _NamedBase, workspace: Workspace) -> tuple[Files | None, str]:
    """The base's files, or None and why they are not at hand; an error of a base that the caller names is raised."""
    if not named.name:
        return None, "its base is not named: give --base MODEL"
    if named.foreign:
        return None, f"its base {named.name!r} is a path of its maker's machine: give --base MODEL"
    try:
        repo = _base_repo(named, workspace)
    except HubError:
        if named.asked:
            raise
        return None, f"its base {named.name!r} is no name of a base model: give --base MODEL"
    try:
        return locate(repo), ""
    except HubError as error:
        if named.asked:
            raise
        return None, f"its base {named.name} is not at hand ({error.message}): fit and effect are not known"


def _base_repo(named: _NamedBase, workspace: Workspace) -> Repo:
    repo = workspace.registry.require_base_model(workspace.registry.name_of_base(named.name), "--base").base
    return repo if repo.revision else replace(repo, revision=named.revision)


def _unknown_base(named: _NamedBase) -> Base:
    """The record of a base that is not at hand: its name and revision as far as anybody says."""
    return Base(
        id=named.name,
        revision=named.revision or "",
        weights="",
        config="",
        tokenizer="",
        chat_template="",
        shapes={},
        sketch=Sketch(tensors=0, values=""),
    )


def _probe(model: Files | None, folder: Path) -> Probe | None:
    """The adapter's effect on its base; None without the base. Raises `NoEffect` where it is no more than rounding."""
    if model is None:
        return None
    from ..engine.model.probe import DTYPE, effect

    found = effect(model, folder, PROBE_TEXTS)
    if found.is_rounding:
        raise NoEffect(
            f"it moves its base by {found.kl:.2g} nats a token, as little as rounding does ({found.noise:.2g})",
            "its matrices are zero, or too small to do anything: ask its author",
        )
    return Probe(PROBE_TEXTS, found.kl, DTYPE)


def _present(workspace: Workspace, name: str, digest: str, model: Files | None) -> Adapter | None:
    """The same adapter, where it was imported under this name before and no less was known of its base."""
    same = [a for a in workspace.store.readable()[0] if (a.manifest.name, a.manifest.content_hash) == (name, digest)]
    weights = model.weights_digest if model else None
    return next((a for a in reversed(same) if weights in (None, a.manifest.base.weights)), None)


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
