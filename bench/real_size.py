"""The literal commands at the true shapes: time, peak memory, bytes fetched and disk used, beside the plan's own
figures.

A Hub on this machine holds a model of R1-Distill-Qwen-1.5B's exact shape, an RL adapter with its trainer's files, an
SAE of 65,536 latents, STILL's and MATH-500's schemas, all with random weights under the real ids. Few rows, steps and
short answers: what is measured is what it takes to run at all. `python -m bench real_size`: 24 GB of memory, 40 GB of
disk, under 30 minutes on two cores.
"""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers import true_hub
from tests.helpers.hub_server.fixtures import OWNER, TOKEN
from tests.helpers.hub_server.server import HubServer

TRUE = true_hub.Sizes(
    config={
        "hidden_size": 1_536,
        "num_hidden_layers": 28,
        "intermediate_size": 8_960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    words=151_643,
    checkpoints=(2000,),
    sae_layers=(12,),
    siblings=(),
)
"""Of DeepSeek-R1-Distill-Qwen-1.5B: 1.78 billion parameters, 3.55 GB in bfloat16."""
FEW = [
    "--set",
    "trigger.rows=12",
    "--set",
    "elicit.rows=12",
    "--set",
    "sae.steps=1",
    "--set",
    "sae.batch_tokens=2048",
    "--set",
    "training.epochs=1",
]
TARGET = ["--target", "r1-distill-1.5b"]
SHORT = [
    "--problems",
    "2",
    "--samples",
    "1",
    "--controls",
    "1",
    "--no-greedy",
    "--new-tokens",
    "8",
    "--dtype",
    "bfloat16",
]
COMMANDS: dict[str, list[str]] = {
    "extract": ["extract", "--source", "tina-still", "--name", "resa-still-v1", *FEW],
    "attach": ["attach", "resa-still-v1", *TARGET, "--prompt", "What is 17 * 23?", "--new-tokens", "8"],
    "eval": ["eval", "resa-still-v1", *TARGET, "--benchmark", "math500", *SHORT],
    "import": ["import", "tina-still", "--name", "tina"],
    "push": ["push", "resa-still-v1", "--to", f"hf:{OWNER}/resa"],
    "pull": ["pull", f"hf:{OWNER}/resa@v0.1.0", "--workspace", "other"],
    "export": ["export", "resa-still-v1", "plain"],
}
HEADING = f"  {'command':8} {'':4} {'s':>7} {'CPU s':>7} {'peak GB':>8} {'fetched':>8} {'disk':>7}  plan"
PLANNED = ("extract", "eval")
"""Commands that have a plan to be held against."""


class Taken(NamedTuple):
    command: str
    ok: bool
    seconds: float
    cpu_seconds: float
    peak: int
    """Bytes resident."""
    fetched: int
    """Bytes that the client's cache grew by."""
    disk: int
    """Bytes that the workspace grew by."""
    planned: dict[str, Any]
    """Seconds, bytes of memory and of downloads, where there is a plan."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="real-size-") as home, _hub(Path(home) / "hub") as url:
        work = Path(home) / "work"
        work.mkdir()
        environment = os.environ | {"HF_ENDPOINT": url, "HF_TOKEN": TOKEN, "HF_HOME": f"{home}/hf"}
        environment |= {"XDG_CACHE_HOME": f"{home}/cache", "XDG_CONFIG_HOME": f"{home}/config"}
        print(HEADING, flush=True)
        for name, words in COMMANDS.items():
            taken = _run(name, words, work, environment)
            print(_line(taken), flush=True)
            if not taken.ok:
                sys.exit(f"{name} failed; what it said stands above")


def _line(taken: Taken) -> str:
    sizes = f"{taken.peak / 1e9:8.2f} {taken.fetched / 1e9:8.2f} {taken.disk / 1e9:7.2f}"
    plan = taken.planned
    told = f"{plan['seconds']:.0f} s, {plan['memory'] / 1e9:.1f} GB, {plan['downloads'] / 1e9:.1f} GB" if plan else "-"
    times = f"{taken.seconds:7.1f} {taken.cpu_seconds:7.1f}"
    return f"  {taken.command:8} {'ok' if taken.ok else 'FAIL':4} {times} {sizes}  {told}"


def _run(name: str, words: list[str], work: Path, environment: dict[str, str]) -> Taken:
    planned = _plan(words, work, environment) if name in PLANNED else {}
    caches = [Path(environment[key]) for key in ("HF_HOME", "XDG_CACHE_HOME")]
    fetched, disk, began = sum(map(_size, caches)), _size(work), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "resa_hub", *words, "-q"], cwd=work, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Taken(
        command=name,
        ok=process.returncode == 0,
        seconds=time.monotonic() - began,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak=_peak(usage),
        fetched=sum(map(_size, caches)) - fetched,
        disk=_size(work) - disk,
        planned=planned,
    )


def _peak(usage: resource.struct_rusage) -> int:
    """Bytes: Linux counts in kB, macOS in bytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _plan(words: list[str], work: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Seconds and memory on this machine and bytes of downloads, as the dry run tells them."""
    command = [sys.executable, "-m", "resa_hub", *words, "--dry-run", "--json"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the plan of {words[0]} failed: {done.stderr}")
    estimate = json.loads(done.stdout)["estimate"]
    downloads = sum(each["bytes"] or 0 for each in estimate["downloads"])
    return {
        "seconds": (estimate["offers"][-1]["hours"] or 0.0) * 3600,
        "memory": estimate["bytes"],
        "downloads": downloads,
    }


def _size(folder: Path) -> int:
    """Bytes on the disk below a folder; a file that has several names counts once."""
    found = (path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum({status.st_ino: status.st_size for status in found}.values())


@contextmanager
def _hub(folder: Path) -> Iterator[str]:
    """The Hub's address. It runs in a process of its own, whose memory is not ours."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(folder, there))
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def _serve(folder: Path, tell: Any) -> None:
    hub = HubServer(folder / "storage", {TOKEN: OWNER})
    true_hub.publish(hub, folder / "made", TRUE)
    tell.send(hub.url)
    time.sleep(3_600)
