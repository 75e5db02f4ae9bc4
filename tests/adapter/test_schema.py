"""The manifest's schema: published, held by what we write, and old artifacts that stay readable."""

import json
import os
import shutil
from pathlib import Path

import jsonschema
import pytest

from resa_hub.adapter.layout import MANIFEST
from resa_hub.adapter.manifest import SCHEMA, parse_manifest, read_manifest
from resa_hub.adapter.store import Store
from resa_hub.adapter.verify import verify_folder
from resa_hub.cli.main import run
from resa_hub.core.errors import Integrity
from scripts import schema as published

ROOT = Path(__file__).parents[2]
ARTIFACTS = sorted((ROOT / "tests" / "artifacts").iterdir())


def test_the_published_schema_is_that_of_the_program() -> None:
    """Golden; `UPDATE_GOLDEN=1 pytest tests/adapter/test_schema.py` writes it anew."""
    if os.environ.get("UPDATE_GOLDEN"):
        published.PATH.write_text(published.schema())
    assert published.PATH.read_text() == published.schema()


@pytest.mark.parametrize(
    "path", [*ARTIFACTS, *ROOT.glob("adapters/*/*")], ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_what_we_write_and_wrote_follows_it(path: Path) -> None:
    content = json.loads((path / MANIFEST).read_text())
    jsonschema.validate(content, json.loads(published.PATH.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"surprise": 1}, json.loads(published.PATH.read_text()))


@pytest.mark.parametrize("path", ARTIFACTS, ids=lambda path: path.name)
def test_an_old_artifact_is_read_verified_and_shown(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = verify_folder(path)
    place = tmp_path / "adapters" / manifest.name / manifest.version
    place.parent.mkdir(parents=True)
    shutil.copytree(path, place)
    home = ["--workspace", str(tmp_path)]
    for command in (
        ["show", manifest.name],
        ["log", manifest.name],
        ["list"],
        ["verify"],
        ["push", manifest.name, "--to", f"folder:{tmp_path}/remote"],
    ):
        assert run([*command, *home]) == 0, command
    assert run(["pull", f"folder:{tmp_path}/remote#{manifest.name}", "--workspace", str(tmp_path / "there")]) == 0
    assert read_manifest(Store(tmp_path / "there" / "adapters").root / manifest.name / manifest.version) == manifest
    capsys.readouterr()


def test_a_newer_schema_is_refused_with_the_next_step() -> None:
    content = json.loads((ARTIFACTS[0] / MANIFEST).read_text())
    with pytest.raises(Integrity, match=f"schema {SCHEMA + 1}; this resa-hub reads up to {SCHEMA}") as raised:
        parse_manifest(content | {"schema": SCHEMA + 1, "unknown": "field"}, MANIFEST)
    assert "newer resa-hub" in raised.value.hint
