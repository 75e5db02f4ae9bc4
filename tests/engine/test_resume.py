"""Work that was interrupted goes on, and what comes out is what would have come out anyway."""

import os
import random
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from resa_hub.adapter.store import Adapter, Store
from resa_hub.adapter.verify import verify_folder
from resa_hub.adapter.workspace import Workspace
from resa_hub.core.errors import Conflict, NotFound, RunFailed
from resa_hub.core.machine_errors import machine_error
from resa_hub.core.progress import Progress
from resa_hub.extraction.extract import extract
from resa_hub.extraction.run import ResourceLimits
from resa_hub.extraction.run_dir import hold, seconds_between_states
from resa_hub.upkeep.free import free
from resa_hub.upkeep.kept import find_kept, not_used_for
from tests.conftest import QUICK
from tests.extraction.test_extract import left_in
from tests.helpers.killed import finish, start

LONGER = [*QUICK, "training.epochs=6", "sae.steps=60", "lora.dropout=0.1"]
"""Two or three seconds, with random numbers in every step."""
KILLS = 10


def quick(workspace: Path, settings: list[str] | None = None, **choices: Any) -> tuple[Adapter, bool]:
    choices = {"method": "feature-diff", "progress": Progress(quiet=True)} | choices
    return extract("tina-tiny", workspace=workspace, settings=QUICK + (settings or []), **choices)


def kept(workspace: Path) -> list[str]:
    """Names of the states that lie in the work folders."""
    return sorted(path.name for path in (workspace / ".resa-hub/work").glob("*/*"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["feature-diff", "sae-tuning"])
def test_killed_at_many_moments_the_adapter_is_the_undisturbed_one(tmp_path: Path, method: str) -> None:
    whole, log, chance = tmp_path / "whole.log", tmp_path / "killed.log", random.Random(7)
    finish(
        start(tmp_path / "warm", tmp_path / "warm.log", LONGER, method="telepathy")
    )  # the fork server loads the libraries
    began = time.monotonic()
    assert finish(start(tmp_path / "whole", whole, LONGER, method=method)) == 0, whole.read_text()
    duration, kills, home = time.monotonic() - began, 0, 0
    while kills < KILLS:
        process = start(tmp_path / str(home), log, LONGER, method=method)
        process.join(chance.uniform(0.05, 0.7) * duration)
        kills += process.is_alive()
        process.kill()
        code = finish(process)
        assert code in (-9, 0), log.read_text()
        home += code == 0  # finished between two kills: on with an empty workspace
    assert finish(start(tmp_path / str(home), log, LONGER, method=method)) == 0, log.read_text()
    said = [
        line.split()[1] for path in (whole, log) for line in path.read_text().splitlines() if line.startswith("made")
    ]
    assert len(said) == home + 2 and len(set(said)) == 1, log.read_text()
    assert "train adapter: continuing at step" in log.read_text()
    for workspace in (tmp_path / str(number) for number in range(home + 1)):
        assert [verify_folder(adapter.folder).version for adapter in Store(workspace / "adapters").readable()[0]] == [
            "0.1.0"
        ]
        assert not any(path.startswith(".staging") for path in left_in(workspace)) and kept(workspace) == []


@pytest.mark.slow
def test_interrupted_in_stage_two_it_goes_on_at_that_step(
    made: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from resa_hub.engine.methods import trainer

    monkeypatch.setenv("RESA_HUB_STATE_SECONDS", "0")
    update = trainer._TrainingRun.update

    def stops(run: Any, *step: Any) -> None:
        if run.step == 5:
            raise KeyboardInterrupt
        update(run, *step)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainer._TrainingRun, "update", stops)
        quick(tmp_path)
    assert left_in(tmp_path) == [] and {"adapter.pt", "finished-layers.2.pt", "cost.pt"} <= set(kept(tmp_path))
    adapter, new = quick(tmp_path, resume=True, progress=Progress())
    said = capsys.readouterr().err
    assert new and adapter.manifest.content_hash == made.manifest.content_hash and kept(tmp_path) == []
    assert "train adapter: continuing at step 5 of 9" in said and "the SAE is finished from before" in said
    assert said.count("128 of 128 are kept from before") == 2
    assert adapter.manifest.run.costs["adapter"].tokens == made.manifest.run.costs["adapter"].tokens
    assert adapter.manifest.run.costs["sae"].operations == made.manifest.run.costs["sae"].operations > 0


@pytest.mark.slow
def test_again_goes_on_with_an_interrupted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("RESA_HUB_STATE_SECONDS", "0")

    def fails(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("resa_hub.engine.run.measure", fails)
        quick(tmp_path)
    assert quick(tmp_path, again=True, resume=True, progress=Progress())[0].manifest.version == "0.1.0"
    assert "continuing at step 9 of 9" in capsys.readouterr().err
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("resa_hub.engine.run.measure", fails)
        quick(tmp_path, again=True)
    assert quick(tmp_path, again=True, progress=Progress())[0].manifest.version == "0.2.0"
    assert "continuing at step 9 of 9" in capsys.readouterr().err
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("resa_hub.engine.run.measure", fails)
        quick(tmp_path, again=True)
    home = Workspace.find(tmp_path)
    assert free(find_kept(home, ["runs"]), home) > 0
    assert quick(tmp_path, again=True, progress=Progress())[0].manifest.version == "0.3.0"
    assert "continuing" not in capsys.readouterr().err


def test_resume_needs_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no interrupted extraction"):
        quick(tmp_path, resume=True)
    assert left_in(tmp_path) == [] and kept(tmp_path) == []


def test_a_finished_recipe_is_what_resume_ends_in(workspace: Path, made: Adapter) -> None:
    adapter, new = quick(workspace, resume=True)
    assert not new and adapter.manifest == made.manifest


def test_two_processes_do_not_run_the_same_extraction(tmp_path: Path) -> None:
    with hold(tmp_path, "one") as work:
        (work.folder / "adapter.pt").write_bytes(b"state")
        with pytest.raises(Conflict) as caught, hold(tmp_path, "one"):
            pass
        assert caught.value.exit_code == 6 and (work.folder / "adapter.pt").exists()
        with hold(tmp_path, "another"):
            pass
    with hold(tmp_path, "one") as work:
        assert work.begun
        work.discard()
    with hold(tmp_path, "one") as work:
        assert not work.begun
    assert not (tmp_path / "one").exists() and not (tmp_path / "another").exists()


def test_work_that_was_given_up_goes_when_it_is_named_and_not_before(tmp_path: Path) -> None:
    root, home = tmp_path / ".resa-hub/work", Workspace.find(tmp_path)
    then = time.time() - 40 * 86_400
    for name in ("old", "new"):
        (root / name).mkdir(parents=True)
        (root / name / "adapter.pt").write_bytes(b"state")
    os.utime(root / "old/adapter.pt", (then, then))
    with hold(root, "mine"):
        assert (root / "new").exists() and (root / "old").exists()
    free(not_used_for(find_kept(home, ["runs"]), "30d"), home)
    assert (root / "new").exists() and not (root / "old").exists()


def test_states_are_half_a_minute_apart_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds_between_states() == 30
    for said, seconds in (("0", 0), ("2.5", 2.5), ("-1", 0), ("often", 30)):
        monkeypatch.setenv("RESA_HUB_STATE_SECONDS", said)
        assert seconds_between_states() == seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "settings", "said"),
    [
        ({resource.RLIMIT_FSIZE: 120_000}, [], "state of this run cannot be written"),
        ({resource.RLIMIT_FSIZE: 2_000}, [], "larger than is allowed"),
        ({resource.RLIMIT_AS: 400 << 20}, ["sae.latents=4000000"], "memory does not suffice"),
        ({}, ["training.learning_rate=1e30"], "not finite"),
    ],
    ids=["no room for a state", "no room for rollouts", "no memory", "NaN"],
)
def test_what_the_machine_refuses_is_one_clear_error_and_the_store_is_clean(
    tmp_path: Path, limits: dict[int, int], settings: list[str], said: str
) -> None:
    log = tmp_path / "log"
    assert finish(start(tmp_path / "home", log, QUICK + settings, limits, method="feature-diff")) == 1, log.read_text()
    errors = [line for line in log.read_text().splitlines() if line.startswith("error")]
    assert len(errors) == 1 and said in errors[0] and not errors[0].endswith("| ")
    assert left_in(tmp_path / "home") == [] and "Traceback" not in log.read_text()
    if limits and not settings:
        assert finish(start(tmp_path / "home", log, QUICK, method="feature-diff")) == 0
        assert Store(tmp_path / "home/adapters").names() == ["tina-tiny-feature-diff-l2"]


def test_failures_of_the_machine_are_known_behind_other_errors() -> None:
    import errno

    import torch
    from safetensors import SafetensorError

    try:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    except SafetensorError as error:
        full = machine_error(error, "; kept")
    assert isinstance(full, RunFailed) and "disk is full" in full.message and full.hint.endswith("; kept")
    wrapped = ValueError("could not write")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded", "/some/file")
    assert "quota" in machine_error(wrapped).message and "/some/file" in machine_error(wrapped).message  # pyright: ignore[reportOptionalMemberAccess]
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        assert "memory" in machine_error(error).message  # pyright: ignore[reportOptionalMemberAccess]
    assert (
        machine_error(ValueError("something else")) is None
        and machine_error(FileNotFoundError(errno.ENOENT, "no such file")) is None
    )


@pytest.mark.slow
def test_a_lost_remote_is_a_network_error_and_nothing_is_begun(tmp_path: Path) -> None:
    from tests.helpers.commands import resa_hub

    done = resa_hub(
        "extract",
        "--source",
        "tina-still",
        "--workspace",
        str(tmp_path),
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tmp_path / "hf"),
    )
    assert done.returncode == 7 and "cannot be reached" in done.stderr and not (tmp_path / "adapters").exists()


def test_the_price_names_the_source(made: Adapter) -> None:
    import msgspec

    from resa_hub.cli.render.costs import lines

    costs = made.manifest.run.costs
    assert list(costs) == ["adapter", "rollouts", "sae", "total"]
    assert all(
        cost.seconds > 0 and cost.tokens > 0 and cost.operations > 1e6 and cost.memory > 1 << 26
        for cost in costs.values()
    )
    assert costs["total"].tokens == sum(cost.tokens for name, cost in costs.items() if name != "total")
    assert costs["total"].seconds >= max(cost.seconds for cost in costs.values())
    priced = msgspec.structs.replace(made.manifest.run, usd=0.021, source_usd=60.0)
    note = made.manifest.run.source_note
    assert (
        "GRPO" in note
        and lines(priced)[-1] == f"price     this extraction $0.02; its source cost $60 to train ({note})"
    )
    assert lines(made.manifest.run)[-1] == f"price     training its source is not in it ({note})"
    assert not any(
        line.startswith("price") for line in lines(msgspec.structs.replace(made.manifest.run, source_note=""))
    )
    assert ResourceLimits(rate=1.0) != ResourceLimits()
