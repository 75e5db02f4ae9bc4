from pathlib import Path
from typing import Annotated

from . import options
from .options import Argument, Option
from .output import Output


def report(
    names: Annotated[
        list[str] | None,
        Argument(
            help="NAME, NAME@VERSION, or JSON files of `eval`, `matrix` and `sweep`; without it all of the store."
        ),
    ] = None,
    target: Annotated[str | None, Option("--target", help="Only evaluations on this model.")] = None,
    benchmark: Annotated[str | None, Option("--benchmark", help="Only this benchmark.")] = None,
    to: Annotated[Path | None, Option("--out", help="page.html, page.md or page.json; `-` prints Markdown.")] = None,
    samples: Annotated[
        str, Option("--samples", help="Completions a page embeds for each evaluation: a number, or none.")
    ] = "2000",
    published: Annotated[
        list[str] | None, Option("--published", help="A published result of the registry to draw beside.")
    ] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Write evaluations as one page: verdicts in words, every arm, flips, lengths, settings, samples."""
    from ..core.errors import Usage
    from ..evaluation.reports import ReportQuery, collect_report
    from ..report.formats import default_name, rendered, write

    if samples != "none" and not samples.isdecimal():
        raise Usage(f"--samples {samples!r} is no number", "--samples 2000, or --samples none")
    printed = out.as_json or str(to) == "-"
    wish = ReportQuery(
        names or (), target, benchmark, 0 if printed or samples == "none" else int(samples), published or ()
    )
    made = collect_report(wish, workspace)
    if out.as_json and to is None:
        print(rendered(made, ".json"), end="")
    elif str(to) == "-":
        print(rendered(made, ".md"), end="")
    else:
        path = to or Path(default_name(made))
        write(made, path)
        verdicts = [
            {"adapter": e.document.adapter, "target": e.document.target, "verdict": e.document.verdict}
            for e in made.entries
        ]
        if not out.data({"page": str(path), "bytes": path.stat().st_size, "evaluations": verdicts}, str(path)):
            for entry in made.entries:
                out.text(
                    f"{entry.document.verdict}: {entry.document.adapter} on {entry.document.target}, "
                    f"{entry.document.benchmark}"
                )
            for line in made.left_out:
                out.hint(f"left out: {line}")
            out.text(f"{path}  {path.stat().st_size / 1e3:,.0f} kB")
