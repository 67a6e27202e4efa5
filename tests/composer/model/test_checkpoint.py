"""Checkpoints: whole or absent when written, checked and explained when read."""

import os
import pickle
from pathlib import Path

import pytest
import torch

import composer
import composer.registry
from composer.errors import CheckpointError, DiskFullError
from composer.model.checkpoint import fingerprint, load_model, newest, read_checkpoint, write_checkpoint
from tests.composer.training.tiny import TinyData, module, only_tiny_components, trainer

__all__ = ["only_tiny_components"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trainer(folder, max_steps=3).fit(module(save_every_steps=1), TinyData())
    return folder


@pytest.fixture
def checkpoint(run: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    path = tmp_path / "step-3.ckpt"
    path.write_bytes((run / "checkpoints/step-00000003.ckpt").read_bytes())
    return path


def plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(k) in (str, int) and plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool) or isinstance(value, torch.Tensor)


def test_it_holds_what_is_needed_to_build_the_model_again_in_plain_values(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    assert plain({key: value for key, value in content.items() if key != "loops"})
    assert content["composer"]["frames"] == 2
    assert content["composer"]["distributions"]["multimodal-composer"] == composer.__version__
    assert content["hyper_parameters"]["model"]["backbone"] == {"name": "unknown/tiny-sum", "dim": 6}
    assert content["hyper_parameters"]["training"]["learning_rate"] == 0.02
    assert content["TinyData"] == {"trained_samples": 12}


def test_load_model_gives_the_trained_model_in_evaluation_mode(run: Path) -> None:
    model = load_model(run)
    weights = read_checkpoint(run)["state_dict"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[f"model.{key}"])
    assert not model.training


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_skipped_with_a_warning(
    run: Path, checkpoint: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    content = checkpoint.read_bytes()
    later = checkpoint.with_name("step-4.ckpt")
    later.write_bytes(content[: int(share * len(content))])
    os.utime(later, ns=(later.stat().st_atime_ns, checkpoint.stat().st_mtime_ns + 10**9))
    assert newest(checkpoint.parent) == checkpoint
    assert "step-4.ckpt is skipped: it is truncated" in caplog.text
    with pytest.raises(CheckpointError, match=r"step-4\.ckpt cannot be read: it is truncated"):
        read_checkpoint(later)


def test_a_file_of_the_right_size_with_a_lost_page_is_left_out(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    checkpoint.write_bytes(content)
    assert newest(checkpoint.parent) is None
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(checkpoint)


def test_a_model_does_not_need_what_only_training_needs(checkpoint: Path) -> None:
    states = torch.load(checkpoint)["optimizer_states"][0]["state"]
    moment = max((state["exp_avg"] for state in states.values()), key=torch.Tensor.numel).numpy().tobytes()
    content = checkpoint.read_bytes()
    assert content.count(moment) == 1
    checkpoint.write_bytes(content.replace(moment, bytes(len(moment))))
    for path in (checkpoint, checkpoint.parent):
        load_model(path)
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


def test_newest_is_the_one_written_last_at_any_depth(run: Path, tmp_path: Path) -> None:
    assert newest(tmp_path / "absent") is None
    for name in ("b/step-9.ckpt", "a/step-1.ckpt", "step-5.ckpt"):
        write_checkpoint(read_checkpoint(run), tmp_path / name)
    assert newest(tmp_path) == tmp_path / "step-5.ckpt"


def test_writing_replaces_a_file_only_when_the_new_one_is_whole(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkpoint.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFullError, match="No space"):
            write_checkpoint({"x": torch.zeros(1000)}, checkpoint)
    assert checkpoint.read_bytes() == before
    assert [p.name for p in checkpoint.parent.iterdir()] == [checkpoint.name]
    write_checkpoint({"x": torch.ones(2)}, checkpoint)
    assert torch.load(checkpoint)["x"].tolist() == [1, 1]


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("owned",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": Malicious()}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "owned").exists()


def test_what_is_no_checkpoint_of_ours_is_named(tmp_path: Path, run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*absent\.ckpt"):
        read_checkpoint(tmp_path / "absent.ckpt")
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        read_checkpoint(tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="is not a checkpoint written by `composer fit`"):
        read_checkpoint(tmp_path / "other.ckpt")
    for version in (1, 99):
        other = read_checkpoint(run)
        other["composer"]["format"] = version
        other["composer"]["distributions"]["multimodal-composer"] = "0.0.7"
        torch.save(other, tmp_path / "other.ckpt")
        message = f"got format {version}, expected 2: install multimodal-composer 0.0.7"
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(tmp_path / "other.ckpt")


def test_other_versions_of_distributions_are_told_once(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = read_checkpoint(run)
    other["composer"]["distributions"] |= {"multimodal-composer": "0.0.7", "more-parts": "1.2"}
    torch.save(other, tmp_path / "other.ckpt")
    caplog.clear()
    for _ in range(2):
        read_checkpoint(tmp_path / "other.ckpt")
    assert [record.getMessage() for record in caplog.records] == [
        f"The checkpoint was written with multimodal-composer 0.0.7; {composer.__version__} is installed",
        "The checkpoint was written with more-parts 1.2, which is not installed: pip install 'more-parts==1.2'",
    ]


def test_another_architecture_is_told_part_by_part(run: Path, tmp_path: Path) -> None:
    wrong = read_checkpoint(run)
    wrong["hyper_parameters"]["model"]["backbone"]["dim"] = 7
    wrong["state_dict"]["model.reducers.0.queries"] = torch.zeros(5, 2)
    del wrong["state_dict"]["model.encoder.scale"]
    torch.save(wrong, tmp_path / "wrong.ckpt")
    with pytest.raises(CheckpointError) as error:
        load_model(tmp_path / "wrong.ckpt")
    lines = str(error.value).splitlines()
    assert lines[1:4] == [
        "  encoder: encoder.scale (3,) is missing from the checkpoint",
        "  projector: projector.linear.weight is (6, 3) in the checkpoint, (7, 3) in the model",
        "  backbone: backbone.embedding.weight is (128, 6) in the checkpoint, (128, 7) in the model; "
        "backbone.output.weight is (128, 6) in the checkpoint, (128, 7) in the model",
    ]
    assert lines[4] == "  reducer: reducers.0.queries (5, 2) is not in the model"


def test_a_fingerprint_tells_weights_apart_and_not_names(tmp_path: Path) -> None:
    def saved(name: str, value: float) -> str:
        torch.save({"weight": torch.full((4,), value)}, tmp_path / name)
        return fingerprint(tmp_path / name)

    assert saved("a.ckpt", 1.0) == saved("copied-elsewhere.ckpt", 1.0)
    assert saved("a.ckpt", 1.0) != saved("a.ckpt", 1.5)
