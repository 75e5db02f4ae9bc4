"""Adapters that were made elsewhere come in with what is known of them; ours go out as the plain folder that serving
stacks take.
"""

import json
import os
import secrets
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..adapter import card, fit, untrusted
from ..adapter import sketch as kinship
from ..adapter.layout import CARD, CONFIG, MANIFEST, SAE, WEIGHTS, content_hash, identity_of, scan
from ..adapter.manifest import PROBE_TEXTS, Base, Manifest, Probe, Run, Sketch
from ..adapter.store import Adapter
from ..adapter.verify import verify
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.refs import Repo, check_name
from ..core.errors import HubError, NotFound, RunFailed, Usage, did_you_mean
from ..core.files import read_bounded, read_json
from ..data.snapshots import SAE_FORMATS, Files, locate
from ..hub.transfer import copy_verified, sha256_of

METHOD = "imported"


def import_adapter(
    origin: str, *, name: str | None = None, base: str | None = None, workspace: WorkspaceLike = None
) -> tuple[Adapter, str]:
    """Take a plain PEFT LoRA into the store: `./folder`, `owner/name@revision:subfolder`, or a registry name such as
    tina-still.

    base: the model it stands on; its config says so otherwise. Returns it and what is not known of it (empty when its
    base was at hand: then its effect was measured). Raises `NotFound`, `Integrity` and `NoEffect` for what is no sound
    LoRA, `DoesNotFit` for another base, `Network`.
    """
    workspace = Workspace.find(workspace)
    repo = _repo(origin, workspace)
    name = check_name(name or _name(repo, origin))
    files = locate(repo, "adapter")
    with workspace.store.staging() as folder:
        _take(files, folder)
        untrusted.check_files(folder)
        lora, config = fit.read_lora(folder), read_json(folder / CONFIG)
        model, missing = _base(base, config, workspace)
        if model:
            fit.require(fit.assess(None, lora, model), origin, model.id)
        entries = scan(folder)

        def finish(numbered: str) -> None:
            manifest = Manifest(
                name=name,
                version=numbered,
                content_hash=content_hash(entries),
                files=identity_of(entries),
                method=METHOD,
                hookpoint="",
                base=kinship.describe_base(model) if model else _unknown(base, config),
                probe=_probe(model, folder),
                source="",
                source_revision=files.revision,
                sae=None,
                data={},
                recipe=None,
                recipe_digest="",
                seed=0,
                parents=(),
                run=Run(
                    created=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds=0.0,
                    tokens=0,
                    stages={},
                    hardware="",
                    libraries={"resa-hub": version("resa-hub")},
                    findings={"origin": str(repo), "revision": files.revision, "rank": lora.rank},
                ),
            )
            (folder / MANIFEST).write_bytes(manifest.to_json())
            (folder / CARD).write_text(card.render(manifest), encoding="utf-8")

        present = _same(workspace, name, content_hash(entries))
        adapter = present or workspace.store.add_next(folder, name, finish)
    return adapter, missing


def _repo(origin: str, workspace: Workspace) -> Repo:
    entry = workspace.registry.model_entry(origin)
    if entry is None:
        return Repo.parse(origin)
    if entry.adapter is None:
        raise Usage(
            f"{origin} is a model, not an adapter", "name an adapter, as ./folder or owner/name@revision:subfolder"
        )
    return entry.adapter.repo


def _name(repo: Repo, origin: str) -> str:
    last = (repo.subfolder or repo.id if "/" in origin else origin).rstrip("/").rpartition("/")[2].lower()
    return "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "-" for c in last).strip("._-") or "imported"


def _take(files: Files, folder: Path) -> None:
    """Config and weights, nothing else of what lies there."""
    if not (files.folder / CONFIG).is_file():
        raise NotFound(
            f"{files.folder} holds no PEFT adapter: there is no {CONFIG}",
            "name the folder (or :subfolder) that holds it",
        )
    if not (files.folder / WEIGHTS).is_file():
        raise NotFound(
            f"{files.id} has no {WEIGHTS}", "only safetensors are read, never pickles: save it again with a newer PEFT"
        )
    for part in (CONFIG, WEIGHTS):
        shutil.copyfile((files.folder / part).resolve(), folder / part)  # the Hub's cache holds links
    read_bounded(folder / CONFIG)


def _base(asked: str | None, config: Any, workspace: Workspace) -> tuple[Files | None, str]:
    """The base's files, or why they are not at hand."""
    named = asked or config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return None, "its base is not named: give --base MODEL"
    try:
        ref = workspace.registry.bare(workspace.registry.name_of_base(named), "--base")
    except HubError:
        if asked:
            raise
        return None, f"its base {named!r} is no name of a base model: give --base MODEL"
    revision = config.get("revision") if not asked else None
    known = ref.base if ref.base.revision or not isinstance(revision, str) else Repo(ref.base.id, revision)
    try:
        return locate(known), ""
    except HubError as error:
        if asked:
            raise
        return None, f"its base {named} is not at hand ({error.message}): fit and effect are not known"


def _unknown(asked: str | None, config: dict[str, Any]) -> Base:
    named, revision = asked or config.get("base_model_name_or_path"), config.get("revision")
    return Base(
        id=named if isinstance(named, str) else "",
        revision=revision if isinstance(revision, str) else "",
        weights="",
        config="",
        tokenizer="",
        chat_template="",
        shapes={},
        sketch=Sketch(tensors=0, values=""),
    )


def _probe(model: Files | None, folder: Path) -> Probe | None:
    if model is None:
        return None
    from ..engine.model.probe import effect

    return Probe(texts=PROBE_TEXTS, kl=effect(model, folder, PROBE_TEXTS).kl)


def _same(workspace: Workspace, name: str, digest: str) -> Adapter | None:
    """What was imported under this name before."""
    found = [a for a in workspace.store.readable()[0] if (a.manifest.name, a.manifest.content_hash) == (name, digest)]
    return found[0] if found else None


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
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Usage(f"{target} exists and is not an empty folder", "name a new folder")
    manifest = verify(adapter.folder)
    entries = [entry for entry in manifest.files if sae or not entry.path.startswith(SAE)]
    if sae and not (adapter.folder / SAE).is_dir():
        raise NotFound(
            f"{manifest.reference} has no SAE here", "it was made without one, or pulled without it: pull it whole"
        )
    staged = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        for entry in entries:
            copy_verified(adapter.folder / entry.path, staged / entry.path, entry.size, sha256_of(entry), entry.path)
        if base is not None:
            config = read_json(staged / CONFIG) | {"base_model_name_or_path": base, "revision": None}
            (staged / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        if sae_format == "sparsify":
            from ..engine.sae.convert import to_sparsify

            for folder in (staged / SAE).iterdir():
                to_sparsify(folder, folder.name)
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
