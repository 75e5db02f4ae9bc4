"""Small data sets with the columns of the published ones, as files of a repository. The problems are ours."""

import io
import json
from collections.abc import Callable
from typing import Any

import pandas


def _rows(count: int, **columns: Callable[[int], Any]) -> list[dict[str, Any]]:
    return [
        {name.replace("_", " ") if name[0].isupper() else name: make(i) for name, make in columns.items()}
        for i in range(1, count + 1)
    ]


TRAIN = "data/train-00000-of-00001.parquet"
ROWS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "HuggingFaceH4/aime_2024": (
        TRAIN,
        _rows(
            12,
            id=lambda i: 60 + i,
            problem=lambda i: f"Find the sum of ${i}$ and $17$.",
            solution=lambda i: f"It is $\\boxed{{{i + 17:03}}}$.",
            answer=lambda i: f"{i + 17:03}",
            url=lambda i: "u",
            year=lambda i: "2024",
        ),
    ),
    "yentinglin/aime_2025": (
        TRAIN,
        _rows(
            12,
            problem=lambda i: f"Find the product of ${i}$ and $11$.",
            answer=lambda i: str(11 * i),
            solution=lambda i: "s",
            id=lambda i: i,
        ),
    ),
    "knoveleng/AMC-23": (
        TRAIN,
        _rows(12, problem=lambda i: f"Halve ${i}$.", answer=lambda i: f"{i / 2}", url=lambda i: "u"),
    ),
    "HuggingFaceH4/MATH-500": (
        "test.jsonl",
        _rows(
            30,
            problem=lambda i: f"Write ${i}/7$ as a fraction.",
            solution=lambda i: "s",
            answer=lambda i: f"\\frac{{{i}}}{{7}}",
            subject=lambda i: "Algebra",
            level=lambda i: 1 + i % 5,
            unique_id=lambda i: f"test/{i}",
        ),
    ),
    "knoveleng/Minerva-Math": (
        TRAIN,
        _rows(
            12,
            problem=lambda i: f"A mass of {i} kg, in grams?",
            solution=lambda i: f"First \\boxed{{0}}, then \\boxed{{{i}e3}} \\mathrm{{g}}.",
            type=lambda i: "physics",
            idx=lambda i: i,
        ),
    ),
    "Idavidrein/gpqa": (
        "gpqa_diamond.csv",
        _rows(
            40,
            Record_ID=lambda i: f"rec{i}",
            Question=lambda i: f"Which number follows {i}?",
            Correct_Answer=lambda i: str(i + 1),
            Incorrect_Answer_1=lambda i: str(i + 2),
            Incorrect_Answer_2=lambda i: str(i + 3),
            Incorrect_Answer_3=lambda i: f"{i + 4}\n",
        ),
    ),
    "knoveleng/OlympiadBench": (
        TRAIN,
        _rows(
            12,
            question=lambda i: f"Solve $x^2={i * i}$.",
            answer=lambda i: [f"${i}$", f"${-i}$"],
            solution=lambda i: "s",
            subfield=lambda i: "Algebra",
        ),
    ),
    "openai/gsm8k": (
        "main/test-00000-of-00001.parquet",
        _rows(
            12,
            question=lambda i: f"Ann has {i} thousand coins and gets one more. How many?",
            answer=lambda i: f"{i}*1000+1 = <<{i}*1000+1={i}001>>{i},001\n#### {i},001",
        ),
    ),
}
CARDS = {
    "Idavidrein/gpqa": "---\nconfigs:\n- config_name: gpqa_diamond\n  data_files: gpqa_diamond.csv\n---\n",
    "openai/gsm8k": "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: test\n    path: main/test-*\n---\n",
}
NAMES = {
    "aime24": "HuggingFaceH4/aime_2024",
    "aime25": "yentinglin/aime_2025",
    "amc23": "knoveleng/AMC-23",
    "math500": "HuggingFaceH4/MATH-500",
    "minerva": "knoveleng/Minerva-Math",
    "gpqa-diamond": "Idavidrein/gpqa",
    "olympiadbench": "knoveleng/OlympiadBench",
    "gsm8k": "openai/gsm8k",
}


def written(path: str, rows: list[dict[str, Any]]) -> bytes:
    """The rows in the format of the name."""
    if path.endswith(".jsonl"):
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    buffer = io.BytesIO()
    frame = pandas.DataFrame(rows)
    frame.to_csv(buffer, index=False) if path.endswith(".csv") else frame.to_parquet(buffer)
    return buffer.getvalue()


def files_of(repo_id: str) -> dict[str, bytes]:
    path, rows = ROWS[repo_id]
    card = {"README.md": CARDS[repo_id].encode()} if repo_id in CARDS else {}
    return {path: written(path, rows), **card}
