"""References: what is written is what is read; bad text is a usage error and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resa_hub.config.refs import (
    DATA_SUFFIXES,
    HOOKPOINT,
    HUB_ID,
    NAME,
    REVISION,
    VERSION,
    AdapterRef,
    DatasetRef,
    ModelRef,
    Repo,
    SaeRef,
    check_hookpoint,
    check_name,
    check_version,
    layer_of,
)
from resa_hub.config.remotes import RemoteRef
from resa_hub.core.errors import Usage


def matching(pattern: Any) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True).filter(lambda text: ".." not in text)


folders = st.from_regex(r"[a-z0-9_-]{1,8}(/[a-z0-9_-]{1,8}){0,2}", fullmatch=True)
paths = st.builds(lambda start, rest: start + rest, st.sampled_from(["./", "../", "/", "~/"]), folders)
repos = st.builds(Repo, matching(HUB_ID), st.none() | matching(REVISION), st.none() | folders) | st.builds(Repo, paths)
adapters = st.builds(AdapterRef, matching(NAME), st.none() | matching(VERSION))
refs: dict[Any, st.SearchStrategy[Any]] = {
    Repo: repos,
    ModelRef: st.builds(ModelRef, repos, st.none() | repos),
    AdapterRef: adapters,
    SaeRef: st.builds(SaeRef, repos, st.none() | matching(HOOKPOINT)),
    DatasetRef: st.builds(
        DatasetRef,
        repos.filter(lambda repo: not str(repo).endswith(DATA_SUFFIXES)),
        st.from_regex(r"[a-z]{1,9}", fullmatch=True),
    )
    | st.builds(lambda stem, suffix: DatasetRef(Repo(stem + suffix)), folders, st.sampled_from(DATA_SUFFIXES)),
    RemoteRef: st.builds(
        lambda path, adapter: RemoteRef("folder", path, adapter), folders | paths, st.none() | adapters
    )
    | st.builds(
        lambda owner, revision: RemoteRef("hf", owner, None, revision), matching(HUB_ID), st.none() | matching(REVISION)
    ),
}
kinds = pytest.mark.parametrize("kind", list(refs), ids=lambda kind: kind.__name__)

ids = ["o/n", "tina-still", "~", "main", "0.1.0", "latest", "layers.2", ".mlp", "folder:", "hf:", ".json", "é", "٣"]
marks = ["@", ":", "+", "#", "..", "/", "./", " ", "\0", "\n"]
rubbish = st.text() | st.lists(st.sampled_from(ids + marks), max_size=8).map("".join)


@kinds
@given(data=st.data())
def test_text_and_reference_are_one(kind: Any, data: st.DataObject) -> None:
    ref = data.draw(refs[kind])
    assert kind.parse(str(ref)) == ref


@kinds
@given(text=rubbish)
def test_any_text_parses_or_is_a_usage_error(kind: Any, text: str) -> None:
    try:
        ref = kind.parse(text)
    except Usage as error:
        assert error.hint
    else:
        assert kind.parse(str(ref)) == ref


@pytest.mark.parametrize(
    ("kind", "text", "ref"),
    [
        (Repo, "o/n@main:sub/folder", Repo("o/n", "main", "sub/folder")),
        (Repo, "./some where", Repo("./some where")),
        (
            ModelRef,
            "o/n@abc+a/b@v1:checkpoint-2000",
            ModelRef(Repo("o/n", "abc"), Repo("a/b", "v1", "checkpoint-2000")),
        ),
        (AdapterRef, "resa-still-v1@latest", AdapterRef("resa-still-v1")),
        (AdapterRef, "resa-still-v1@0.2.0", AdapterRef("resa-still-v1", "0.2.0")),
        (SaeRef, "o/n#layers.12.mlp", SaeRef(Repo("o/n"), "layers.12.mlp")),
        (DatasetRef, "o/n", DatasetRef(Repo("o/n"), "train")),
        (DatasetRef, "rows.jsonl", DatasetRef(Repo("rows.jsonl"))),
        (RemoteRef, "folder:/srv/hub#a@1.0.0", RemoteRef("folder", "/srv/hub", AdapterRef("a", "1.0.0"))),
        (RemoteRef, "hf:o/n@v0.1.0", RemoteRef("hf", "o/n", None, "v0.1.0")),
    ],
)
def test_written_forms(kind: Any, text: str, ref: object) -> None:
    assert kind.parse(text) == ref


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (Repo.parse, "only-a-name"),
        (Repo.parse, "o/../n"),
        (Repo.parse, "o/n:../outside"),
        (Repo.parse, "o/n:/etc"),
        (Repo.parse, "о/n"),  # a Cyrillic letter
        (ModelRef.parse, "o/n+"),
        (AdapterRef.parse, "Upper"),
        (AdapterRef.parse, "name@"),
        (AdapterRef.parse, "name@1.0"),
        (SaeRef.parse, "o/n#12"),
        (RemoteRef.parse, "hf:"),
        (RemoteRef.parse, "hf:./local"),
        (RemoteRef.parse, "hf:o/n:sub"),
        (RemoteRef.parse, "folder:#name"),
        (RemoteRef.parse, "s3:bucket"),
        (check_name, "a" * 97),
        (check_version, "01.0.0"),
        (check_version, "1\u0663.0.0"),  # the same number in other digits would be another label
        (check_hookpoint, "layers.-1"),
        (check_hookpoint, "layers.1\u0663"),
    ],
)
def test_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(text)
    assert caught.value.hint


def test_layer_of_a_hookpoint() -> None:
    assert (layer_of("layers.12"), layer_of("layers.0.mlp")) == (12, 0)
