"""`benchmarks.gpu.runner` with parts that fail, crash, hang and run out of time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.record import Recorder, read_figures
from benchmarks.gpu.runner import Part, Run
from composer.errors import ConfigError


def part(name: str, seconds: float = 60) -> Part:
    return Part(name, f"a part that {name}", "tests.benchmarks.fake_part", seconds, 1)


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def figures(folder: Path, name: str) -> list[str]:
    return [figure["name"] for figure in results(folder)["figures"] if figure["part"] == name]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def runs(folder: Path, name: str) -> int:
    return len((folder / "work" / name / "runs").read_text())


def test_a_failure_costs_only_its_part(tmp_path: Path) -> None:
    names = ("raises", "crashes", "attempts", "late", "works")
    outcomes = Run([part(name) for name in names], tmp_path, device="cpu").execute(minutes=5)
    assert [outcome.state for outcome in outcomes] == ["failed", "failed", "failed", "incomplete", "finished"]
    assert "signal 11" in outcomes[1].note
    assert [entry["state"] for entry in results(tmp_path)["parts"]] == [outcome.state for outcome in outcomes]
    assert figures(tmp_path, "raises") == figures(tmp_path, "crashes") == ["before"]
    assert figures(tmp_path, "attempts") == ["before", "in between", "after"]
    assert figures(tmp_path, "works") == ["before", "after"]
    assert "RuntimeError: planted" in (tmp_path / "logs" / "raises.log").read_text()
    assert "Fatal Python error" in (tmp_path / "logs" / "crashes.log").read_text()
    report = (tmp_path / "report.md").read_text()
    assert "| before | 1.5 | s | 3 | 50.0% |  |" in report
    assert "failed: ZeroDivisionError" in report
    assert "needs about 10000 s" in report


def test_a_hang_is_killed_at_its_limit_with_all_that_it_started(tmp_path: Path) -> None:
    start = time.monotonic()
    hung, worked = Run([part("hangs", 4), part("works")], tmp_path, device="cpu").execute(minutes=5)
    assert time.monotonic() - start < 60
    assert hung.state == "killed at its limit"
    assert figures(tmp_path, "hangs") == ["before"]
    assert worked.state == "finished"
    assert not alive(int((tmp_path / "work/hangs/child").read_text()))
    assert "fake_part.py" in (tmp_path / "logs/hangs.log").read_text()  # where it hung


def test_the_same_output_resumes_with_the_missing_parts(tmp_path: Path) -> None:
    parts = [part("works"), part("raises once"), part("never started")]
    outcomes = Run(parts, tmp_path, device="cpu").execute(minutes=5, only=("works", "raises once"))
    assert [outcome.state for outcome in outcomes] == ["finished", "failed"]
    outcomes = Run(parts, tmp_path, device="cpu").execute(minutes=5)
    assert [outcome.state for outcome in outcomes] == ["finished"] * 3
    assert [runs(tmp_path, one.name) for one in parts] == [1, 2, 1]
    assert figures(tmp_path, "raises once") == ["before", "after"]


def test_what_does_not_fit_in_the_time_is_skipped_and_says_so(tmp_path: Path) -> None:
    (skipped,) = Run([part("works")], tmp_path, device="cpu").execute(minutes=0)
    assert skipped.state == "skipped"
    assert "needs at least 1 s, 0 s were left" in (tmp_path / "report.md").read_text()
    (done,) = Run([part("works")], tmp_path, device="cpu").execute(minutes=5)
    assert done.state == "finished"


def test_figures_of_another_device_or_size_are_not_mixed(tmp_path: Path) -> None:
    Run([part("works")], tmp_path, device="cpu").execute(minutes=0)
    with pytest.raises(ConfigError, match="choose another folder"):
        Run([part("works")], tmp_path, device="cpu", tiny=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_stops_its_part_and_keeps_its_figures(tmp_path: Path, number: int) -> None:
    code = (
        "import signal\nfrom pathlib import Path\nfrom benchmarks.gpu.__main__ import _stop\n"
        "from benchmarks.gpu.runner import Run\nfrom tests.benchmarks.test_gpu_runner import part\n"
        "signal.signal(signal.SIGTERM, _stop)\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"Run([part('hangs'), part('works')], Path({str(tmp_path)!r}), device='cpu').execute(5)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    child = tmp_path / "work/hangs/child"
    while not child.exists() or not child.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait(timeout=30) != 0
    assert not alive(int(child.read_text()))
    assert [entry["state"] for entry in results(tmp_path)["parts"]] == ["interrupted"]
    assert figures(tmp_path, "hangs") == ["before"]
    assert not (tmp_path / "work/works").exists()


def test_every_record_says_where_it_comes_from(tmp_path: Path) -> None:
    Run([part("works")], tmp_path, device="cpu", tiny=True).execute(minutes=5)
    for figure in results(tmp_path)["figures"]:
        assert figure["command"] == "python -m benchmarks.gpu --only works --tiny --device cpu"
        assert figure["device"] == "cpu"
        assert figure["gpu"] is None
        assert {"python", "torch", "triton", "transformers"} <= figure["versions"].keys()


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "part", "cpu", "command")
    recorder.add("first", 1)
    recorder.add("second", 2)
    recorder.path.write_text(recorder.path.read_text()[:-20])
    Recorder(tmp_path, "part", "cpu", "command").add("third", 3)
    assert [figure["name"] for figure in read_figures(recorder.path)] == ["first", "third"]


def test_a_later_figure_replaces_an_earlier_one_unless_it_is_none(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "part", "cpu", "command")
    for value in (None, 1, 2, None):
        recorder.add("figure", value)
    assert [figure["value"] for figure in read_figures(recorder.path)] == [2]


@pytest.mark.parametrize(("higher", "share"), [(True, 0.25), (False, 4.0), (None, None)])
def test_the_share_of_the_limit(tmp_path: Path, higher: bool | None, share: float | None) -> None:
    recorder = Recorder(tmp_path, "part", "cpu", "command")
    recorder.add("figure", 2.0, limit=8.0, higher_is_better=higher)
    assert read_figures(recorder.path)[0]["share"] == share
