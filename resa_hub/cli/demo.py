"""The whole hub on the embedded models: a list of real command lines, run one after another in this process, and a
table of what came out.
"""

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

from typer import Context, Option

from ..core.errors import RunFailed
from ..core.install import activation, program
from ..core.quantities import duration
from . import options
from .output import Output
from .render.words import VERDICTS
from .tables import Column

FEATURES, TUNED = "tina-tiny-feature-diff-l2", "tina-tiny-sae-tuning-l2"
TARGETS = ("tiny-r1", "tiny-r1b")
PROMPT = "7*7-8+6-4="
COLUMNS = (
    Column("adapter", whole=True),
    Column("target", whole=True),
    Column("gain, points", right=True),
    Column("95%", right=True, hide=1),
    Column("retained", whole=True, hide=2),
    Column("verdict", words=VERDICTS),
)
"""Of what came out."""


def script(workspace: str) -> list[tuple[str, list[str]]]:
    """(what it shows, arguments) of every step; `home` is the workspace."""
    here, remote, friend = ["--workspace", workspace], f"folder:{workspace}/remote", f"{workspace}/friend"
    make = ["extract", "--source", "tina-tiny"]
    attach = [["attach", FEATURES, "--target", target, "--prompt", PROMPT, *here] for target in TARGETS]
    judge = [
        ["eval", FEATURES, TUNED, "--target", target, "--samples", "2", "--no-greedy", *here] for target in TARGETS
    ]
    return [
        (
            "Extract by feature difference: learn what the source changes in its SAE features.",
            [*make, "--method", "feature-diff", *here],
        ),
        ("Extract by SAE-Tuning, the published method.", [*make, *here]),
        ("Attach to the adapter's own base, and prove that it took effect.", attach[0]),
        ("Attach to a sibling that the adapter has never seen.", attach[1]),
        ("Share it through a folder.", ["push", FEATURES, "--to", remote, *here]),
        ("A friend pulls it; every byte is checked.", ["pull", f"{remote}#{FEATURES}", "--workspace", friend]),
        ("Did it transfer? Judge both adapters against base, source and random controls.", judge[0]),
        ("And on the sibling.", judge[1]),
    ]


def demo(
    context: Context,
    workspace: Annotated[
        Path | None, Option("--workspace", help="Folder to work in; ./resa-hub-demo by default.")
    ] = None,
    debug: options.Debug = False,
) -> int:
    """The whole hub in two minutes, on the embedded models."""
    began, out = time.monotonic(), Output()
    root = context.find_root().command
    folder = workspace or Path("resa-hub-demo")
    try:
        (folder / "adapters").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFailed(f"cannot write into {folder}: {error.strerror}", "choose another --workspace") from None
    for number, (about, arguments) in enumerate(script(str(folder)), 1):
        out.text(f"\n[{number}] {about}")
        out.verbatim(f"$ resa-hub {shlex.join(arguments)}")
        code = root.main([*arguments, *(["--debug"] if debug else [])], prog_name="resa-hub", standalone_mode=False)
        if isinstance(code, int) and code:
            return code
    verdicts = [(name, target, read_verdict(folder, name, target)) for target in TARGETS for name in (FEATURES, TUNED)]
    out.text("\nWhat came out")
    out.table(COLUMNS, [_row(name, target, e) for name, target, e in verdicts])
    out.text("\n" + "\n".join(conclusions(verdicts)), VERDICTS)
    out.text(f"\n{duration(time.monotonic() - began)}. Everything is in {folder}. What is recorded of an adapter:")
    out.verbatim(f"  {program()} show {FEATURES} --workspace {shlex.quote(str(folder))}")
    if line := activation():
        out.text(f"`{line}` puts resa-hub on the PATH of this shell.")
    return 0


def read_verdict(folder: Path, name: str, target: str) -> dict[str, Any]:
    """The evaluation that was just recorded beside the adapter."""
    from ..adapter.recorded import load_evaluations
    from ..adapter.workspace import Workspace
    from ..config.refs import AdapterRef

    adapter = Workspace.find(folder).store.get(AdapterRef(name))
    return next(e for e in reversed(load_evaluations(adapter)) if e["target"] == target)


def _row(name: str, target: str, e: dict[str, Any]) -> list[str]:
    low, high = e["gain_ci"]
    kept = f"{e['retained']:.2f} [{e['retained_ci'][0]:.2f}, {e['retained_ci'][1]:.2f}]" if e["retained_ci"] else "-"
    return [name, target, f"{e['gain']:+.1f}", f"[{low:+.1f}, {high:+.1f}]", kept, e["verdict"]]


def conclusions(verdicts: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """Two sentences of what transferred and what did not, and one of what that means."""
    sentences = []
    for name in dict.fromkeys(name for name, _, _ in verdicts):
        by_word: dict[str, list[str]] = {}
        for _, target, e in (v for v in verdicts if v[0] == name):
            by_word.setdefault(e["verdict"], []).append(
                f"{target} ({e['gain']:+.1f} points; its source {e['source_gain']:+.1f})"
            )
        sentences.append(
            f"{name}: " + "; ".join(f"{word} on {' and '.join(targets)}" for word, targets in by_word.items()) + "."
        )
    sentences.append(
        "The source's gain on these tiny models undoes a habit that was planted in them: this shows the tools "
        "at work, it is no evidence about large models."
    )
    return sentences
