r"""A process that compares answers with math-verify: one JSON line in, one out. `python -m
resa_hub.evaluation.benchmarks.worker`.

In: [gold, answer, loose]; without an answer (null) the question is whether the gold can be read. Out: true, false,
"unreadable gold" or "time-out". math-verify counts its time by SIGALRM, which only the main thread of a process may
set; what it cannot interrupt (a power of powers in C) the other side ends by killing this process.
"""

import json
import re
import sys
import time
from typing import Any

SECONDS = 5


def equal(gold: str, answer: str | None, loose: bool) -> bool | str:
    """Is the answer the gold? Asked in this order: math-verify is not symmetric. A loose answer is a text in which
    math-verify looks for one itself.
    """
    from math_verify import parse, verify

    began = time.monotonic()
    wanted = _boxed(gold)
    if all(
        isinstance(part, str) for part in wanted
    ):  # no mathematics in it: texts are compared, and who differs is not known to be wrong
        same = answer is not None and not loose and gold.strip() == answer.strip() != ""
        return same or ("time-out" if time.monotonic() - began >= SECONDS else "unreadable gold")
    if answer is None or (not loose and gold.strip() == answer.strip()):
        return True
    given = parse(answer, parsing_timeout=SECONDS) if loose else _boxed(answer)
    right = bool(given) and bool(verify(wanted, given, timeout_seconds=SECONDS))
    return right or ("time-out" if time.monotonic() - began >= SECONDS else False)


def _boxed(text: str) -> list[Any]:
    """What math-verify reads in a box of this content; `4.5e33` counts as a number, not as a product with Euler's."""
    from math_verify import LatexExtractionConfig, parse

    plain = re.sub(r"(?<=[\w})\]])\.$", "", re.sub(r"(?<!\\)\$", "", text).strip())
    plain = re.sub(r"(?<=\d)[eE]([+-]?\d{1,3})(?![\w.])", r"\\times 10^{\1}", plain)
    return (
        parse(
            f"\\boxed{{{plain}}}",
            extraction_config=(LatexExtractionConfig(boxed_match_priority=0),),
            parsing_timeout=SECONDS,
        )
        if plain
        else []
    )


def main() -> None:
    import logging

    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        print(json.dumps(equal(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
