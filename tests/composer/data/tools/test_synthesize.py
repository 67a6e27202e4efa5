"""The made data set on disk."""

import errno
import filecmp
import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from composer.cli import main
from composer.data.tools.shapes import FRAMES, QUESTIONS, SIDE, Split, draw_scene, generator, render
from composer.data.tools.synthesize import encode, synthesize
from composer.errors import DataError
from composer.sample import Media
from composer_plugins.readers.llava import LlavaReader

COUNTS: dict[Split, int] = {"train": 6, "stills": 5, "heldout": 3}


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_same_seed_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert synthesize(tmp_path / name, COUNTS, seed)
    names = files(tmp_path / "a")
    assert len(names) == 6 + 5 + 3 + 3 + 1
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False)[0] == names
    same, different, _ = filecmp.cmpfiles(tmp_path / "a", tmp_path / "c", names, shallow=False)
    assert not same
    assert sorted(different) == names


def test_the_encoder_gives_the_same_bytes_again_and_again() -> None:
    """H.264 with threads, or scaling with threads, differs in about one clip of a hundred."""
    rng = generator(0, "train", 0)
    frames = render(draw_scene(rng, "train"), rng)
    assert len({encode(frames) for _ in range(100)}) == 1


def test_records_are_read_back_and_videos_show_what_was_rendered(tmp_path: Path) -> None:
    synthesize(tmp_path / "set", COUNTS, 0)
    train, stills, heldout = (LlavaReader(tmp_path / "set" / f"{name}.jsonl") for name in COUNTS)
    assert (len(train), len(stills), len(heldout)) == (6, 5, 3 * len(QUESTIONS))
    assert sorted(heldout[i].meta["question_type"] for i in range(5)) == sorted(QUESTIONS)
    assert all(len(str(record.messages[1].content[0]).split()) == 5 for record in stills)

    for index, record in enumerate(train):
        rng = generator(0, "train", index)
        scene = draw_scene(rng, "train")
        rendered = render(scene, rng).astype(float)
        said = dict(zip(record.messages[::2], record.messages[1::2], strict=True))
        assert {answer.content[0] for answer in said.values()} == {scene.answer(t) for t in QUESTIONS}
        (media,) = record.media
        assert media == Media("video", str(tmp_path / "set" / "videos" / f"train-{index:05d}.mp4"))
        with av.open(media.path) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            decoded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        assert decoded.shape == (FRAMES, SIDE, SIDE, 3)
        assert abs(decoded - rendered).mean() < 8  # edges of colors: their resolution is halved

    (image,) = stills[0].media
    assert np.asarray(Image.open(image.path)).shape == (SIDE, SIDE, 3)


def test_a_set_that_is_there_is_kept_and_another_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    synthesize(folder, COUNTS, 0)
    before = os.stat(folder / "train.jsonl").st_mtime_ns
    assert not synthesize(folder, COUNTS, 0)
    assert os.stat(folder / "train.jsonl").st_mtime_ns == before
    with pytest.raises(
        DataError, match=r"contains a different data set, .*\"seed\": 0.*expected .*\"seed\": 1.*--force"
    ):
        synthesize(folder, COUNTS, 1)
    assert synthesize(folder, COUNTS, 1, force=True)
    assert json.loads((folder / "manifest.json").read_text())["seed"] == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="contains other files"):
        synthesize(tmp_path / "other", COUNTS, 0)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"


def test_a_set_that_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "set", COUNTS, 0, progress=stop)
    assert not (tmp_path / "set").exists()
    assert synthesize(tmp_path / "set", COUNTS, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "synthesize", str(tmp_path / "set"), "--train=2", "--stills=2", "--heldout=1"]
    assert main(arguments) == 0
    assert "written" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "exists already" in capsys.readouterr().out
    assert main([*arguments, "--seed=1"]) == 1
    assert main(["data", "synthesize", str(tmp_path / "x"), "--train=0"]) == 2
    assert "--train: got 0, expected at least 1" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "synthesize", str(tmp_path / "set"), "--train=2", "--stills=2", "--heldout=1"]

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)  # the worker processes are forked
        assert main(arguments) == 1
    assert f"{tmp_path / 'set'}: cannot be written: No space left on device" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
    assert main(arguments) == 0
