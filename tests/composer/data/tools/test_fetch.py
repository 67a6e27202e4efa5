"""Data sets come from a hub (a small server of our own) with the hub's own client, and an interrupted fetch goes on."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pytest
from pyarrow import parquet

from composer.cli import main
from composer.data.tools import fetch as fetching
from composer.data.tools.fetch import Repository, list_repositories
from composer.errors import DiskFullError
from composer.recipe.data import SourceConfig, data_config
from composer_plugins.readers.llava import LlavaReader
from tests.composer.data.hub import Hub, serving
from tests.composer.data.recipes import talk, write_recipe

FIRST, SECOND = "a" * 40, "b" * 40
RECORD = (json.dumps(talk("1")) + "\n").encode()


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {
        "some/pictures": {
            FIRST: {"a.jsonl": RECORD, "images/1.bin": b"1" * 300_000, "b.jsonl": RECORD},
            SECOND: {"a.jsonl": RECORD * 2},
        },
        "some/closed": {FIRST: {"c.jsonl": RECORD}},
    }
    with serving(Hub(files, {"some/pictures": {"main": FIRST}, "some/closed": {"main": FIRST}})) as hub:
        yield hub


class Ran(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def source(path: str, **about: Any) -> dict[str, Any]:
    return {"reader": {"name": "llava", "path": path}, **about}


def recipe(tmp_path: Path, **sources: dict[str, Any]) -> Path:
    root = str(tmp_path / "data")
    return write_recipe(tmp_path / "recipe.yaml", {"root": root, "sources": sources, "train": list(sources)})


def started(hub: Hub, path: Path, python: Sequence[str] = (sys.executable,)) -> "subprocess.Popen[str]":
    """In a process of its own: the hub's client reads its address when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(path.parent / "home")}
    command = [*python, "-m", "composer", "data", "fetch", str(path)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fetch(hub: Hub, path: Path) -> Ran:
    process = started(hub, path)
    out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out, err)


def parts(hub: Hub) -> list[str]:
    return [request for request in hub.requests if request.startswith("PART")]


def test_sources_of_one_repository_are_fetched_once_and_what_cannot_be_is_said(tmp_path: Path, hub: Hub) -> None:
    hub.gated.add("some/closed")
    path = recipe(
        tmp_path,
        a=source("pictures/a.jsonl", hub="some/pictures", revision="main"),
        b=source("pictures/b.jsonl", hub="some/pictures", revision="main"),
        made=source("pictures/made.jsonl", hub="some/pictures", revision="main", note="Convert the rows."),
        closed=source("closed/c.jsonl", hub="some/closed", revision=FIRST),
        gone=source("gone/a.jsonl", hub="some/gone"),
        wrong=source("wrong/a.jsonl", hub="some/pictures", revision="v9"),
        code=source("code/a.csv", hub="github:some/code", note="Videos from elsewhere."),
        ours=source("ours/a.jsonl"),
    )
    ran = fetch(hub, path)
    assert ran.returncode == 1, ran.stderr
    folder = tmp_path / "data/pictures"
    assert (folder / "images/1.bin").read_bytes() == b"1" * 300_000
    assert (folder / "a.jsonl").read_bytes() == (folder / "b.jsonl").read_bytes() == RECORD
    assert sum(request.startswith("GET") and request.endswith("1.bin") for request in hub.requests) == 1
    assert f"some/pictures (main) -> {folder}: a, b, made" in ran.stdout
    assert f"'main' can change: commit {FIRST} was downloaded" in ran.stdout
    assert (
        f"made: {folder / 'made.jsonl'} is not among the downloaded files: create it from them (Convert the rows.)"
        in ran.stdout
    )
    for words in (
        "some/closed: access must be requested: request it on its page, then log in",
        "some/gone: no such data set, or a private one",
        "some/pictures: no revision 'v9': correct data.sources.wrong.revision",
        "code: github:some/code is not on the Hugging Face hub",
        "code/a.csv (note: Videos from elsewhere.)",
        "ours: data.sources.ours.hub is not set",
    ):
        assert words in ran.stderr
    record = json.loads((tmp_path / "data/fetched.json").read_text())
    assert record["some/pictures@main"]["commit"] == FIRST
    assert (record["some/pictures@main"]["whole"], record[f"some/closed@{FIRST}"]["whole"]) == (True, False)


def test_the_next_fetch_takes_the_same_commit_and_asks_for_nothing_that_is_there(tmp_path: Path, hub: Hub) -> None:
    path = recipe(tmp_path, a=source("pictures/a.jsonl", hub="some/pictures", revision="main"))
    assert fetch(hub, path).returncode == 0
    hub.branches["some/pictures"]["main"] = SECOND
    hub.requests.clear()
    ran = fetch(hub, path)
    assert ran.returncode == 0
    assert f"some/pictures (main = {FIRST})" in ran.stdout
    assert (tmp_path / "data/pictures/a.jsonl").read_bytes() == RECORD
    assert not [request for request in hub.requests if request.startswith("GET /datasets")]
    (tmp_path / "data/fetched.json").unlink()
    assert fetch(hub, path).returncode == 0
    assert (tmp_path / "data/pictures/a.jsonl").read_bytes() == RECORD * 2


def test_a_fetch_that_was_cut_off_fails_and_goes_on(tmp_path: Path, hub: Hub) -> None:
    path = recipe(tmp_path, a=source("pictures/a.jsonl", hub="some/pictures", revision=FIRST))
    hub.files["some/pictures"][FIRST]["images/1.bin"] = bytes(25 * 2**20)  # the client writes pieces of 10 MB
    hub.cut["images/1.bin"] = 22 * 2**20
    process = started(hub, path)
    try:
        whole = [tmp_path / "data/pictures" / name for name in ("a.jsonl", "b.jsonl")]
        while process.poll() is None and not (parts(hub) and all(file.exists() for file in whole)):
            time.sleep(0.05)  # the client asks again by itself, for what it has not got
    finally:
        process.kill()
        process.communicate()
    assert list(tmp_path.rglob("*.incomplete"))
    assert not (tmp_path / "data/pictures/images/1.bin").exists()
    hub.cut.clear()
    hub.requests.clear()
    ran = fetch(hub, path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "data/pictures/images/1.bin").read_bytes() == bytes(25 * 2**20)
    asked = [request.rpartition("/")[2] for request in hub.requests if request.startswith("GET /datasets")]
    assert asked == ["1.bin"], "files that are there are not sent again"
    assert not list(tmp_path.rglob("*.incomplete"))


def test_a_full_disk_says_so_and_the_same_command_goes_on(tmp_path: Path, hub: Hub) -> None:
    """A process that may write no more than 100 kB to a file stands for a disk that is full."""
    path = recipe(tmp_path, a=source("pictures/a.jsonl", hub="some/pictures", revision=FIRST))
    with_limit = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", sys.executable]
    process = started(hub, path, python=with_limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert f"composer: {tmp_path / 'data/pictures'}: cannot be written: File too large" in err
    assert not (tmp_path / "data/pictures/images/1.bin").exists()
    assert json.loads((tmp_path / "data/fetched.json").read_text())[f"some/pictures@{FIRST}"]["whole"] is False
    assert fetch(hub, path).returncode == 0
    assert (tmp_path / "data/pictures/images/1.bin").stat().st_size == 300_000


def test_a_client_that_is_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, a=source("pictures/a.jsonl", hub="some/pictures", revision=FIRST))
    (tmp_path / "data/pictures").mkdir(parents=True)
    assert main(["data", "fetch", str(path)]) == 1
    assert "composer: some/pictures: the hub's client is offline: unset HF_HUB_OFFLINE" in capsys.readouterr().err


def test_a_dry_run_asks_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, a=source("pictures/a.jsonl", hub="some/pictures", revision="main"))
    assert main(["data", "fetch", str(path), "--dry-run"]) == 0
    assert capsys.readouterr().out == f"some/pictures (main) -> {tmp_path / 'data/pictures'}: a\n"
    assert not (tmp_path / "data").exists()


def named(**sources: dict[str, Any]) -> list[SourceConfig]:
    """The sources of a recipe whose data.root is /r."""
    given = {"root": "/r", "sources": sources, "train": list(sources)}
    return data_config(given).sources_of("train")


def test_places_that_do_not_go_together() -> None:
    sources = named(
        a=source("x/a.jsonl", hub="some/pictures"),
        b=source("y/b.jsonl", hub="some/pictures"),
        top=source("top.jsonl", hub="some/top"),
        out=source("/else/a.jsonl", hub="some/out"),
    )
    found, problems = list_repositories((one, "/r") for one in sources)
    assert [(one.name, str(one.folder)) for one in found] == [("some/pictures", "/r/x"), ("some/top", "/r")]
    assert [problem.partition(":")[0] for problem in problems] == ["b", "out"]
    assert "let both paths start with the same folder" in problems[0]
    assert "/else/a.jsonl is outside data.root, /r" in problems[1]
    _, (first, *_) = list_repositories((one, None) for one in sources)
    assert "data.root is not set" in first


def test_a_pattern_is_looked_for_as_its_reader_does(tmp_path: Path, hub: Hub) -> None:
    path = recipe(
        tmp_path,
        a=source("pictures/*.jsonl", hub="some/pictures"),
        b=source("pictures/**/b.jsonl", hub="some/pictures"),
        none=source("pictures/*.csv", hub="some/pictures"),
    )
    ran = fetch(hub, path)
    assert ran.returncode == 0, ran.stderr
    said = [
        line.split(":")[0].strip() for line in ran.stdout.splitlines() if "is not among the downloaded files" in line
    ]
    assert said == ["none"]
    assert len(LlavaReader(tmp_path / "data/pictures/*.jsonl")) == 2


@pytest.mark.parametrize("path", ["*/*.json", "*.json", "part-[12]/a.json", "a?/a.json"])
def test_a_pattern_is_no_folder(path: str) -> None:
    found, (problem,) = list_repositories([(named(a=source(path, hub="some/a"))[0], "/r")])
    assert not found
    assert f"a: its path, {path}, starts with a pattern" in problem
    assert f"such as a/{path}" in problem


def test_two_repositories_or_revisions_in_one_folder_are_refused() -> None:
    sources = named(
        one=source("x/one.jsonl", hub="some/one"),
        same=source("x/same.jsonl", hub="some/one", revision="main"),
        two=source("x/two.jsonl", hub="some/two"),
        old=source("x/old.jsonl", hub="some/one", revision="v1"),
        apart=source("y/old.jsonl", hub="some/one", revision="v1"),
        top=source("top.jsonl", hub="some/top"),
        other=source("other.jsonl", hub="some/other"),
    )
    found, problems = list_repositories((one, "/r") for one in sources)
    assert [(str(one.folder), [s.name for s in one.sources]) for one in found] == [
        ("/r/x", ["one", "same"]),
        ("/r/y", ["apart"]),
        ("/r", ["top"]),
    ]
    assert [problem.partition(":")[0] for problem in problems] == ["two", "old", "other"]
    assert "some/two (main) would overwrite files in /r/x, the folder of some/one (main) for one" in problems[0]
    assert "some/one (v1) would overwrite files in /r/x, the folder of some/one (main) for one" in problems[1]


def test_each_revision_of_a_repository_keeps_its_commit(tmp_path: Path, hub: Hub) -> None:
    hub.branches["some/pictures"]["v2"] = SECOND
    pictures = source("pictures/a.jsonl", hub="some/pictures")
    path = recipe(tmp_path, a=pictures, b=source("second/a.jsonl", hub="some/pictures", revision="v2"))
    assert fetch(hub, path).returncode == 0
    hub.branches["some/pictures"] = {"main": SECOND, "v2": FIRST}
    ran = fetch(hub, path)
    assert f"some/pictures (main = {FIRST})" in ran.stdout
    assert f"some/pictures (v2 = {SECOND})" in ran.stdout
    assert (tmp_path / "data/pictures/a.jsonl").read_bytes() == RECORD
    assert (tmp_path / "data/second/a.jsonl").read_bytes() == RECORD * 2


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("top.jsonl", "."),
        ("x/a.jsonl", "x"),
        ("x/y/a.jsonl", "x"),
        ("x", "x"),
        ("llava-1.5", "llava-1.5"),
        ("x/y", "x"),
        (".", "."),
    ],
)
def test_a_repository_goes_to_the_folder_in_which_its_path_starts(path: str, folder: str) -> None:
    (one,), problems = list_repositories([(named(a=source(path, hub="some/a"))[0], "/r")])
    assert (one.folder, problems) == (Path("/r", folder), [])


def test_a_folder_of_parquet_is_where_its_reader_looks(tmp_path: Path, hub: Hub) -> None:
    rows = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([talk("1")]), rows)
    hub.files["some/rows"] = {FIRST: {"one/a.parquet": rows.getvalue(), "two/a.parquet": rows.getvalue()}}
    hub.branches["some/rows"] = {}
    ran = fetch(hub, recipe(tmp_path, rows=source("rows", hub="some/rows", revision=FIRST)))
    assert ran.returncode == 0, ran.stderr
    assert "is not among the downloaded files" not in ran.stdout
    assert len(LlavaReader(tmp_path / "data/rows")) == 2


def test_a_record_by_name_alone_is_read(tmp_path: Path) -> None:
    """As it was written before revisions had entries of their own."""
    (tmp_path / "fetched.json").write_text(json.dumps({"some/a": {"revision": "main", "commit": FIRST, "whole": True}}))
    main, first = (Repository("some/a", which, tmp_path, tmp_path, ()) for which in ("main", "v1"))
    assert fetching.known_commit(first) is None
    fetching._write_record(first, SECOND, whole=True)
    assert (fetching.known_commit(main), fetching.known_commit(first)) == (FIRST, SECOND)


def test_too_little_room_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    repository = Repository("some/huge", FIRST, tmp_path, tmp_path / "huge", ())
    with pytest.raises(DiskFullError, match=r"some/huge: needs [\d,]+\.\d GiB in .*, but only [\d,.]+ GiB are free"):
        fetching._check_room(repository, {"a": 2**60})
    (tmp_path / "fetched.json").write_text("[")
    with pytest.raises(fetching.DataError, match=r"fetched\.json: not JSON"):
        fetching.known_commit(Repository("some/huge", "main", tmp_path, tmp_path, ()))
