"""Packed data are the same data, whole or absent, in tar files that other tools read."""

import base64
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import torch
import yaml
from pyarrow import parquet

from composer.cli import main
from composer.data.media.clip import load_clip
from composer.data.tools.pack import pack_source
from composer.errors import DataError
from composer.reader import Reader
from composer.recipe.resolve import merge_sections
from composer.recipe.yamlfile import load_recipes
from composer.sample import Media, Message, Sample
from composer.shards import Shards
from composer.transform import FrameTransform
from composer_plugins.readers.llava import LlavaReader
from composer_plugins.readers.m3it import M3ITReader
from composer_plugins.readers.packed import PackedReader
from tests.composer.data.modules import data_module
from tests.composer.data.recipes import talk, write_data, write_lines, write_recipe
from tests.composer.data.test_datamodule import KilledError, Recorder, trainer

SMALL = "--shard-size=8KiB"


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    return write_data(tmp_path / "set")


def pack_all(folder: Path, data: dict[str, Any], *flags: str) -> Path:
    """The overlay that packing to `folder/packed` writes."""
    recipe = write_recipe(folder / "recipe.yaml", data)
    assert main(["data", "pack", str(recipe), "--output", str(folder / "packed"), SMALL, *flags]) == 0
    return folder / "packed/packed.yaml"


def originals(root: Path) -> dict[str, Reader]:
    return {
        "images": LlavaReader(root / "images.jsonl", root / "images"),
        "videos": LlavaReader(root / "videos.jsonl"),
        "frames": LlavaReader(root / "frames.jsonl", root / "frames", fps=2),
        "inside": M3ITReader(root / "m3it/inside.jsonl"),
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def members(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def without_media(sample: Sample) -> Sample:
    turns = [replace(m, content=tuple(p if isinstance(p, str) else p.kind for p in m.content)) for m in sample.messages]
    return replace(sample, messages=tuple(turns))


def test_samples_and_clips_are_those_of_the_originals(tmp_path: Path, data: dict[str, Any]) -> None:
    pack_all(tmp_path, data)
    transform = FrameTransform(32, 8, "squash")
    for name, reader in originals(tmp_path / "set").items():
        packed = PackedReader(tmp_path / "packed" / name)
        assert len(packed) == len(reader)
        for own, other in zip(reader, packed, strict=True):
            assert without_media(own) == without_media(other)
            for one, two in zip(own.media, other.media, strict=True):
                assert (one.start, one.end, one.fps, one.rule) == (two.start, two.end, two.fps, two.rule)
                for rule in ("middle", "mvbench"):
                    clips = [load_clip(replace(media, rule=rule), transform, 3) for media in (one, two)]
                    assert torch.equal(clips[0].pixels, clips[1].pixels)
                    assert torch.equal(clips[0].time, clips[1].time)
    assert len(list((tmp_path / "packed/frames").glob("*.tar"))) > 1


def test_training_goes_on_from_the_originals_to_packed_data_with_the_same_batches(
    tmp_path: Path, data: dict[str, Any]
) -> None:
    overlay = pack_all(tmp_path, data)
    section = merge_sections(load_recipes([tmp_path / "recipe.yaml", overlay])).at(["data"]).plain()
    assert section["sources"]["images"]["reader"] == {"name": "packed", "path": str(tmp_path / "packed/images")}

    def fit(folder: Path, given: dict[str, Any], kill_at: int | None = None, checkpoint: str | None = None) -> Recorder:
        recorder = Recorder(kill_at)
        module = data_module(**given, frames=3, batch_size=2, num_workers=0, seed=5)
        run = trainer(folder, max_steps=9)
        try:
            run.fit(recorder, datamodule=module, ckpt_path=checkpoint)
        except KilledError:
            run.save_checkpoint(folder / "killed.ckpt")
        return recorder

    whole = fit(tmp_path / "a", data)
    packed = fit(tmp_path / "b", section)
    assert packed.seen == whole.seen
    for one, two in zip(whole.batches[0], packed.batches[0], strict=True):
        assert torch.equal(one.ids, two.ids)
        assert torch.equal(one.labels, two.labels)
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(one.frames, two.frames, strict=True))
    first = fit(tmp_path / "c", data, kill_at=8)
    second = fit(tmp_path / "d", section, checkpoint=str(tmp_path / "c/killed.ckpt"))
    assert first.seen + second.seen == whole.seen


def test_other_tools_read_the_tars(tmp_path: Path, data: dict[str, Any]) -> None:
    pack_all(tmp_path, data)
    images = tmp_path / "packed/images/00000.tar"
    listed = subprocess.run(["tar", "tf", str(images)], check=True, capture_output=True, text=True).stdout.split()
    assert listed[:4] == ["000000000.0.png", "000000000.json", "000000001.0.png", "000000001.json"]
    assert (
        subprocess.run(["tar", "xOf", str(images), listed[0]], check=True, capture_output=True).stdout
        == (tmp_path / "set/images/0.png").read_bytes()
    )
    everything = [name for path in sorted(images.parent.glob("*.tar")) for name in members(path)]
    records = [name for name in everything if name.endswith(".json")]
    assert records == [f"{n:09d}.json" for n in range(10)]
    assert everything[-1] == "000000009.json", "a sample of text alone has its record alone"
    frames = members(tmp_path / "packed/frames/00000.tar")
    assert frames[:7] == [*(f"000000000.0.{n:05d}.jpg" for n in range(6)), "000000000.json"]
    inside = members(tmp_path / "packed/inside/00000.tar")
    assert inside[:2] == ["000000000.0.jpg", "000000000.json"]


def test_media_of_several_samples_are_in_a_tar_once(tmp_path: Path, data: dict[str, Any]) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", data)
    assert main(["data", "pack", str(recipe), "-o", str(tmp_path / "packed"), "--source", "videos", "images"]) == 0
    with tarfile.open(tmp_path / "packed/videos/00000.tar") as tar:
        assert [name for name in tar.getnames() if not name.endswith("json")] == ["000000000.0.mp4", "000000001.0.mkv"]
        record = json.loads(tar.extractfile("000000004.json").read())  # type: ignore[union-attr]
    assert record["messages"][0]["content"][0]["member"] == "000000000.0.mp4"
    assert sorted(yaml.safe_load((tmp_path / "packed/packed.yaml").read_text())["data"]["sources"]) == [
        "images",
        "videos",
    ]


def test_packing_again_gives_the_same_bytes_and_keeps_what_is_there(tmp_path: Path, data: dict[str, Any]) -> None:
    pack_all(tmp_path, data)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "packed").rglob("*.tar")}
    pack_all(tmp_path, data)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "packed").rglob("*.tar")} == before
    recipe = str(tmp_path / "recipe.yaml")
    assert main(["data", "pack", recipe, "-o", str(tmp_path / "again"), SMALL]) == 0
    for name in ("images", "videos", "frames", "inside"):
        assert contents(tmp_path / "packed" / name) == contents(tmp_path / "again" / name)


def test_another_source_is_refused(tmp_path: Path, data: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    pack_all(tmp_path, data)
    assert main(["data", "pack", str(tmp_path / "recipe.yaml"), "-o", str(tmp_path / "packed")]) == 1
    error = capsys.readouterr().err
    assert '"shard_size": 8192' in error
    assert "choose another --output, or delete this folder" in error


class StopError(Exception):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("after", [0, 3, 7])
def test_an_interrupted_pack_goes_on(tmp_path: Path, data: dict[str, Any], after: int) -> None:
    reader = originals(tmp_path / "set")["images"]

    def stop(records: int) -> None:
        nonlocal left
        left -= records
        if left < 0:
            raise StopError

    left = after
    options: dict[str, Any] = {"shard_size": 4000, "skip_bad": False}
    with pytest.raises(StopError):
        pack_source(reader, tmp_path / "a", {}, **options, advance=stop)
    with pytest.raises(DataError, match=r"index\.json: cannot be read .* to resume: it writes the index last"):
        PackedReader(tmp_path / "a")
    kept = sorted((tmp_path / "a").glob("*.tar"))
    assert len(kept) == after // 2
    assert not list((tmp_path / "a").glob(".*"))
    times = [path.stat().st_mtime_ns for path in kept]
    read: list[int] = []
    pack_source(reader, tmp_path / "a", {}, **options, advance=read.append)
    assert sum(read) == 10
    assert [path.stat().st_mtime_ns for path in kept] == times
    pack_source(reader, tmp_path / "b", {}, **options)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("whole", [False, True], ids=["resumed", "finished"])
def test_a_source_that_changed_is_refused_and_one_that_was_mended_is_not(tmp_path: Path, whole: bool) -> None:
    records = [talk(str(n), image="a.png") for n in range(6)]
    (tmp_path / "a.png").write_bytes(bytes(512))
    path, packed = tmp_path / "a.jsonl", tmp_path / "packed"

    def pack_it() -> None:
        """Two records to a tar: each member is a head and its content, 512 bytes each."""
        pack_source(LlavaReader(path), packed, {"reader": "a"}, shard_size=6 * 512, skip_bad=False)

    write_lines(path, [*records[:4], {"id": "bad"}, records[5]])
    with pytest.raises(DataError, match=r"a\.jsonl:5: "):
        pack_it()
    assert len(list(packed.glob("*.tar"))) == 2
    if whole:
        write_lines(path, records)
        pack_it()
        pack_it()
        assert [sample.id for sample in PackedReader(packed)] == [str(n) for n in range(6)]
    before = contents(packed)
    for changed, line in (
        (records[::-1], 1),
        ([*records[:3], talk("3", image="b.png"), *records[4:]], 4),
        ([*records[:2], talk("2", answer="Another.", image="a.png"), *records[3:]], 3),
    ):
        write_lines(path, changed)
        with pytest.raises(DataError, match=rf"a\.jsonl:{line}: the source has changed: .* choose another --output"):
            pack_it()
    assert contents(packed) == before


def test_a_picture_within_a_record_that_changed_is_found(tmp_path: Path) -> None:
    pictures = [base64.b64encode(bytes([n]) * 9).decode() for n in range(2)]
    for picture in pictures:
        write_lines(tmp_path / "a.jsonl", [{"instruction": "So?", "image_base64_str": [picture], "outputs": "So."}])
        if picture == pictures[0]:
            pack_source(M3ITReader(tmp_path / "a.jsonl"), tmp_path / "packed", {}, shard_size=1, skip_bad=False)
    with pytest.raises(DataError, match="the source has changed"):
        pack_source(M3ITReader(tmp_path / "a.jsonl"), tmp_path / "packed", {}, shard_size=1, skip_bad=False)


def test_a_second_pack_at_once_is_refused(tmp_path: Path, data: dict[str, Any]) -> None:
    """The other one is a process of its own, in the middle of a tar; where it is killed, another goes on."""
    arguments = [str(tmp_path / "set/images.jsonl"), str(tmp_path / "set/images"), str(tmp_path / "packed")]
    code = (
        "import sys, time; from pathlib import Path; from composer.data.tools.pack import pack_source\n"
        "from composer_plugins.readers.llava import LlavaReader\n"
        "def stay(records):\n    print(records, flush=True)\n    time.sleep(60 if records else 0)\n"
        "reader = LlavaReader(sys.argv[1], sys.argv[2])\n"
        "pack_source(reader, Path(sys.argv[3]), {}, shard_size=4000, skip_bad=False, advance=stay)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    reader = originals(tmp_path / "set")["images"]
    try:
        assert other.stdout is not None
        assert [other.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
        before = contents(tmp_path / "packed")
        with pytest.raises(
            DataError, match="packed: another process packs to this folder: wait for it, or choose another"
        ):
            pack_source(reader, tmp_path / "packed", {}, shard_size=4000, skip_bad=False)
        assert contents(tmp_path / "packed") == before
    finally:
        other.kill()
        other.communicate()
    pack_source(reader, tmp_path / "packed", {}, shard_size=4000, skip_bad=False)
    pack_source(reader, tmp_path / "alone", {}, shard_size=4000, skip_bad=False)
    assert contents(tmp_path / "packed") == contents(tmp_path / "alone")


def test_a_missing_file_is_an_error_by_file_and_line_or_left_out(
    tmp_path: Path, data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set/images/2.png").unlink()
    recipe = str(write_recipe(tmp_path / "recipe.yaml", data))
    arguments = ["data", "pack", recipe, "-o", str(tmp_path / "packed"), "--source", "images"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "images.jsonl:3:" in error
    assert "2.png: no such file" in error
    assert "--skip-bad" in error
    assert main([*arguments, "--skip-bad"]) == 0
    assert "8 samples in 1 tar files, 2 records skipped" in capsys.readouterr().out
    packed = PackedReader(tmp_path / "packed/images")
    assert [sample.id for sample in packed] == ["i0", "i1", "i3", "i4", "i5", "i7", "i8", "text"]
    left_out = json.loads((tmp_path / "packed/images/index.json").read_text())["left_out"]
    assert [one["record"] for one in left_out] == [2, 6]
    assert left_out[0]["place"].endswith("images.jsonl:3")
    (tmp_path / "set/images").rename(tmp_path / "set/gone")
    write_lines(tmp_path / "set/images.jsonl", [talk("i", image="0.png")])
    assert main([*arguments, "--skip-bad", "-o", str(tmp_path / "none")]) == 1
    assert "all 1 records would be skipped" in capsys.readouterr().err


def test_names_that_no_overlay_can_replace(
    tmp_path: Path, data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", {"train": str(tmp_path / "set/videos.jsonl")})
    assert main(["data", "pack", str(recipe), "-o", str(tmp_path / "packed")]) == 2
    assert "add it to data.sources" in capsys.readouterr().err
    other = data | {"sources": {**data["sources"], "images": data["sources"]["videos"]}}
    for number, given in enumerate((data, other)):
        write_recipe(tmp_path / f"stages/{number}-s.yaml", given)
    assert main(["data", "pack", str(tmp_path / "stages"), "-o", str(tmp_path / "packed")]) == 2
    assert "data.sources.images: stages read it in 2 ways" in capsys.readouterr().err
    assert main(["data", "pack", str(recipe), "-o", str(tmp_path / "packed"), "--shard-size=1GB"]) == 2
    assert "--shard-size: got '1GB', expected a size such as 1GiB" in capsys.readouterr().err


def test_damaged_shards_say_so(tmp_path: Path, data: dict[str, Any]) -> None:
    pack_all(tmp_path, data)
    folder = tmp_path / "packed/images"
    reader = PackedReader(folder)
    assert reader.location(9) == f"{folder / '00002.tar'}: 000000009.json"
    assert reader[-1].id == "text"
    with pytest.raises(IndexError):
        reader[10]
    path = folder / "00000.tar"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match=r"00000\.tar: ends before .* copy it again"):
        reader[0]
    path.unlink()
    with pytest.raises(DataError, match=r"00000\.tar: cannot be read: .* copy the complete folder"):
        reader[0]
    path.write_bytes(bytes(100_000))
    with pytest.raises(DataError, match=r"00000\.tar: 000000000\.json: not a record of a packed source"):
        reader[0]
    (folder / "index.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="got format 99, expected 1"):
        Shards(folder)


class Odd(Reader):
    """One sample about a stretch of an archive, whose meta JSON cannot hold."""

    def __init__(self, path: Path, meta: Any) -> None:
        self.path, self.meta = path, meta

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        media = Media("image", str(self.path), span=(3, 40))
        return Sample("a", "here", (Message("user", (media, "\ud800")),), {"kind": self.meta})

    def location(self, index: int) -> str:
        return f"{self.path}:1"


def test_archives_odd_text_and_meta(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"123\x89PNG" + bytes(100))
    pack_source(Odd(tmp_path / "a.tar", 1), tmp_path / "good", {}, shard_size=1, skip_bad=False)
    (sample,) = PackedReader(tmp_path / "good")
    assert sample.messages[0].content[1] == "\ud800"
    offset, size = sample.media[0].span or (0, 0)
    assert Path(sample.media[0].path).read_bytes()[offset : offset + size] == b"\x89PNG" + bytes(36)
    assert members(Path(sample.media[0].path)) == ["000000000.0.png", "000000000.json"]
    with pytest.raises(DataError, match=r"a\.tar:1: cannot be written as JSON: keys must be .* \(--skip-bad\)"):
        pack_source(Odd(tmp_path / "a.tar", {(1, 2): 3}), tmp_path / "bad", {}, shard_size=1, skip_bad=False)
    assert os.listdir(tmp_path / "bad") == []


def test_rows_of_parquet_with_their_pictures_within(tmp_path: Path, data: dict[str, Any]) -> None:
    pictures = [(tmp_path / f"set/images/{n}.png").read_bytes() for n in range(4)]
    rows = [talk(str(n), image={"bytes": picture, "path": f"{n}.png"}, kind=n) for n, picture in enumerate(pictures)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    reader = LlavaReader(tmp_path / "a.parquet")
    pack_source(reader, tmp_path / "packed", {}, shard_size=2**20, skip_bad=False)
    for own, other, picture in zip(reader, PackedReader(tmp_path / "packed"), pictures, strict=True):
        assert without_media(own) == without_media(other)
        offset, size = other.media[0].span or (0, 0)
        assert Path(other.media[0].path).read_bytes()[offset : offset + size] == picture == own.media[0].data


def test_what_json_cannot_hold_in_meta_becomes_text(tmp_path: Path) -> None:
    when = datetime(2026, 11, 25, 13, 7)
    rows = [talk(str(n), taken=when, about={"price": Decimal("1.5"), "n": n}) for n in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    pack_source(LlavaReader(tmp_path / "a.parquet"), tmp_path / "packed", {}, shard_size=2**20, skip_bad=False)
    metas = [sample.meta for sample in PackedReader(tmp_path / "packed")]
    assert metas == [{"taken": "2026-11-25 13:07:00", "about": {"price": "1.5", "n": n}} for n in range(3)]


class OneOdd(Reader):
    """Three samples with a picture each; JSON cannot hold what the second one says."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if index == 1:
            media = Media("video", "here", data=b"x", start=Fraction(1, 3))  # type: ignore[arg-type]
        else:
            media = Media("image", "here", data=b"x")
        return Sample(str(index), "here", (Message("user", (media, "So?")),))

    def location(self, index: int) -> str:
        return f"line {index}"


def test_a_record_that_cannot_be_written_is_left_out_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: .*JSON.*--skip-bad"):
        pack_source(OneOdd(), tmp_path / "a", {}, shard_size=2**20, skip_bad=False)
    packed = pack_source(OneOdd(), tmp_path / "a", {}, shard_size=2**20, skip_bad=True)
    assert [(one["record"], one["place"]) for one in packed.left_out] == [(1, "line 1")]
    assert [sample.id for sample in PackedReader(tmp_path / "a")] == ["0", "2"]
    names = ["000000000.0.bin", "000000000.json", "000000001.0.bin", "000000001.json"]
    assert members(tmp_path / "a/00000.tar") == names, "nothing of the one left out"


def test_a_full_disk_keeps_whole_tars_and_the_command_goes_on(tmp_path: Path, data: dict[str, Any]) -> None:
    """A process that may write no more than 4 KiB to a file stands for a disk that is full."""
    recipe = str(write_recipe(tmp_path / "recipe.yaml", data))
    code = (
        "import resource, signal, sys; from composer.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)); sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["data", "pack", recipe, "-o", str(tmp_path / "packed"), "--shard-size=12KiB"]
    big = tmp_path / "set/images/3.png"
    big.write_bytes(big.read_bytes() + bytes(40_000))
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "00000.tar: cannot be written: " in ran.stderr
    assert "MiB are free in" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list((tmp_path / "packed").rglob("*.tar"))
    assert not list((tmp_path / "packed").rglob(".*"))
    assert main(arguments) == 0
    assert len(PackedReader(tmp_path / "packed/images")) == 10
