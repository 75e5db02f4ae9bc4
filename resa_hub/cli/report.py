"""`report`: evaluations as one page."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..core.errors import Usage
from . import complete, options
from .output import Output
from .render import page

Names = Annotated[
    list[str] | None,
    Argument(
        help="NAME, NAME@VERSION, or JSON files of `eval`, `matrix` and `sweep`; without it all of the store.",
        autocompletion=complete.adapters,
    ),
]
Samples = Annotated[str, Option("--samples", help="Completions a page embeds for each evaluation: a number, or none.")]
Published = Annotated[
    list[str] | None, Option("--published", help="A published result of the registry to draw beside.")
]


def report(
    names: Names = None,
    target: Annotated[
        str | None, Option("--target", help="Only evaluations on this model.", autocompletion=complete.models)
    ] = None,
    benchmark: Annotated[
        str | None, Option("--benchmark", help="Only this benchmark.", autocompletion=complete.benchmarks)
    ] = None,
    to: Annotated[Path | None, Option("--out", help="page.html, page.md or page.json; `-` prints Markdown.")] = None,
    samples: Samples = "2000",
    published: Published = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Write evaluations as one page.

    Verdicts in words, every arm, flips, lengths, settings, samples.
    """
    from ..evaluation.reports import ReportQuery, collect_report
    from ..report.write_report import rendered

    if samples != "none" and not samples.isdecimal():
        raise Usage(f"--samples {samples!r} is no number", "--samples 2000, or --samples none")
    printed = out.as_json or str(to) == "-"
    embedded = 0 if printed or samples == "none" else int(samples)
    found = collect_report(ReportQuery(names or (), target, benchmark, embedded, published or ()), workspace)
    if out.as_json and to is None:
        print(rendered(found, ".json"), end="")
    elif str(to) == "-":
        print(rendered(found, ".md"), end="")
    else:
        page.write_report(out, found, to)
