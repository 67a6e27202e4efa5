"""Data sets other than LLaVA's, in the files in which they are published, and what is wrong with some records."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from composer.errors import ConfigError, DataError
from composer.reader import Reader
from composer.recipe.components import slot_config
from composer.registry import load_registry
from composer.sample import Media, Message

HEADER = (
    "index,video_id,start_frame,end_frame,main_object_caption,background_caption,style_caption,camera_caption,"
    "short_caption,dense_caption,fps,start_timestep,end_timestep,,"
)
ROW = (
    "000000008783_AJp_ANXoGoM-000114,AJp_ANXoGoM,163272,166872,People walk.,A hall.,Natural.,Fixed.,"
    'Cars on display.,"A car show.\nPeople, cars.",30,1:30:42,1:32:42,,'
)
CAPTIONS = [{"idx": "1", "content": "A hill."}, {"idx": "2", "content": "Fog."}, {"idx": "-1", "content": "Fog comes."}]
SHARED: dict[str, Any] = {
    "video_id": "9fd3b8",
    "video_path": "mixkit/9fd3b8.mp4",
    "timestamp": ["00:00:00.000", "00:00:02.000"],
    "keyframe": [0, 48],
    "captions": CAPTIONS,
    "zip_folder": "mixkit/mixkit_videos_3.zip",
}
PICTURE = base64.b64encode(b"\xff\xd8picture").decode()
M3IT: dict[str, Any] = {
    "instruction": "Answer the question.",
    "inputs": "What moves?",
    "image_base64_str": [PICTURE],
    "outputs": "A ball.",
    "dataset": "vqa-v2",
}


def reader(name: str, path: Path, **options: Any) -> Reader:
    config = slot_config("reader", name)(name=name, path=str(path), **options)
    return load_registry().build("reader", config)


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_all_are_found() -> None:
    assert {"captions", "llava", "m3it", "miradata", "sharegpt4video"} <= set(load_registry().names("reader"))


def test_m3it(tmp_path: Path) -> None:
    path = lines(tmp_path / "train.jsonl", M3IT, {**M3IT, "inputs": "", "image_base64_str": [PICTURE] * 2})
    one, two = reader("m3it", path)
    image = Media("image", f"{path}, record 1, image 1", data=b"\xff\xd8picture")
    assert one.messages[0].content == (image, "Answer the question.\n\nWhat moves?")
    assert one.messages[1] == Message("assistant", ("A ball.",))
    assert (one.id, one.source, one.meta) == ("train-0", str(path), {"dataset": "vqa-v2"})
    assert [m.path for m in two.media] == [f"{path}, record 2, image {n}" for n in (1, 2)]
    assert two.messages[0].content[2] == "Answer the question."


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**M3IT, "outputs": ""}, "\"outputs\": got '', expected text"),
        ({**M3IT, "instruction": None}, '"instruction": got None, expected text'),
        ({**M3IT, "inputs": 3}, '"inputs": got 3, expected text'),
        ({**M3IT, "image_base64_str": [3]}, '"image_base64_str": got list, expected a list of texts'),
        ({**M3IT, "image_base64_str": [PICTURE, "?"]}, '"image_base64_str", image 2: not base64'),
        ([1], "got list, expected a JSON object"),
    ],
)
def test_bad_m3it(tmp_path: Path, record: Any, message: str) -> None:
    path = lines(tmp_path / "a.jsonl", M3IT, record)
    with pytest.raises(DataError) as caught:
        reader("m3it", path)[1]
    assert str(caught.value).startswith(f"{path}:2: {message}")


def test_sharegpt4video(tmp_path: Path) -> None:
    path = lines(tmp_path / "sharegpt4video_40k.jsonl", SHARED)
    (sample,) = reader("sharegpt4video", path, media_root="/videos")
    video = Media("video", "/videos/mixkit/9fd3b8.mp4")
    assert sample.id == "9fd3b8"
    assert sample.messages[0].content == (video, "Describe this video in detail.")
    assert sample.messages[1].content == ("Fog comes.",)
    assert set(sample.meta) == {"timestamp", "keyframe", "zip_folder"}
    (other,) = reader("sharegpt4video", path, question="What happens?")
    assert other.messages[0].content == (Media("video", str(tmp_path / "mixkit/9fd3b8.mp4")), "What happens?")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": CAPTIONS[:2]}, '"captions": got idx 1, 2, expected one "-1", the caption of the complete video'),
        ({"captions": "Fog."}, "\"captions\": got 'Fog.', expected a list"),
        ({"captions": [{"idx": "-1"}]}, '"content": got None, expected text'),
        ({"video_path": None}, '"video_path": got None, expected text'),
    ],
)
def test_bad_sharegpt4video(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = lines(tmp_path / "a.jsonl", SHARED, SHARED | change)
    with pytest.raises(DataError) as caught:
        reader("sharegpt4video", path)[1]
    assert str(caught.value).startswith(f"{path}:2: {message}")


def mira(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "miradata_v0.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_miradata_clips(tmp_path: Path) -> None:
    path = mira(tmp_path, ROW, ROW.replace("8783_AJp_ANXoGoM", "0042_x"))
    one, two = reader("miradata", path, media_root="/clips")
    assert one.id == "000000008783_AJp_ANXoGoM-000114"
    clip = Media("video", "/clips/000000008/000000008783_AJp_ANXoGoM-000114.mp4")
    assert one.messages[0].content == (clip, "Describe this video in detail.")
    assert one.messages[1].content == ("A car show.\nPeople, cars.",)
    assert one.meta["short_caption"] == "Cars on display."
    assert two.media[0].path == "/clips/000000000/000000000042_x-000114.mp4"


def test_miradata_v1(tmp_path: Path) -> None:
    path = tmp_path / "miradata_v1_9k.csv"
    columns = "clip_id,source,video_url,video_id,width,height,fps,seconds,timestamp,frame_number,framestamp,file_path,"
    row = """7.3,youtube,https://x/7,7,1280,720,30,72,"['0:00:01', '0:01:13']",2160,"[30, 2190]",video/clip/7.3.mp4,"""
    path.write_text(f"{columns}short_caption,dense_caption\n{row}A car.,A car drives.\n")
    (sample,) = reader("miradata", path, media_root="/clips", file="{file_path}")
    assert (sample.id, sample.media) == ("7.3", (Media("video", "/clips/video/clip/7.3.mp4"),))
    assert sample.messages[1].content == ("A car drives.",)


@pytest.mark.parametrize(
    "options",
    [
        {"start": "start_frame", "end": "end_frame", "fps": "fps"},
        {"start": "start_timestep", "end": "end_timestep"},
    ],
)
def test_miradata_segments_of_whole_videos(tmp_path: Path, options: dict[str, str]) -> None:
    records = reader("miradata", mira(tmp_path, ROW), caption="short_caption", file="{folder}/{video}.mp4", **options)
    video = records[0].media[0]
    assert video.path == str(tmp_path / "000000008/000000008783_AJp_ANXoGoM.mp4")
    assert (video.start, video.end) == pytest.approx((5442.4, 5562.4), abs=0.5)
    assert records[0].messages[1].content == ("Cars on display.",)
    by_id = reader("miradata", mira(tmp_path, ROW), file="{video_id}.mp4")
    assert by_id[0].media[0] == Media("video", str(tmp_path / "AJp_ANXoGoM.mp4"))


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (
            ROW.replace('"A car show.\nPeople, cars."', ""),
            {},
            "column 'dense_caption': got no text, expected a caption",
        ),
        (
            ROW.replace("1:30:42", "noon"),
            {"start": "start_timestep"},
            "column 'start_timestep': got 'noon', expected a number or",
        ),
        (ROW, {"start": "end_timestep", "end": "start_timestep"}, "got a segment from 5562 s to 5442 s"),
        (
            ROW.replace(",30,", ",0,"),
            {"start": "start_frame", "fps": "fps"},
            "column 'fps': got '0', expected frames per second",
        ),
        (ROW.replace("000000008783_", "x"), {}, "column 'index': got 'xAJp"),
        (ROW + ",", {}, "got 16 values, expected 15"),
    ],
)
def test_bad_miradata(tmp_path: Path, row: str, options: dict[str, str], message: str) -> None:
    path = mira(tmp_path, ROW, row)
    with pytest.raises(DataError) as caught:
        reader("miradata", path, **options)[1]
    assert str(caught.value).startswith(f"{path}:4: {message}")


def test_miradata_names_columns_that_are_missing(tmp_path: Path) -> None:
    path = mira(tmp_path, ROW)
    with pytest.raises(DataError, match=r"csv:1: got no column 'clip', 'dense', which the reader's options require"):
        reader("miradata", path, caption="dense", file="{clip}.mp4")
    with pytest.raises(DataError, match=r"option `file`: got '\{clip', expected"):
        reader("miradata", path, file="{clip")


def test_unknown_options_are_refused() -> None:
    from composer.recipe.explain import validated
    from composer.recipe.yamlfile import Origin, located

    entries = located({"name": "llava", "path": "a.json", "media_rot": "x"}, Origin("a.yaml", 3))
    with pytest.raises(ConfigError, match=r"a\.yaml:3: .*unknown option; did you mean 'media_root'\?"):
        validated(slot_config("reader", "llava"), "data.sources.a.reader", entries)


def test_videos_of_llava_hound_are_folders_of_pictures(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<video>\nWhat happens?"}, {"from": "gpt", "value": "It rains."}]
    path = lines(tmp_path / "hound.jsonl", {"id": "v_1", "video": "v_1", "conversations": turns})
    (sample,) = reader("llava", path, media_root="frames", fps=2.0)
    assert sample.media == (Media("video", "frames/v_1", fps=2.0),)


@pytest.mark.parametrize(
    ("name", "record", "keys", "options"),
    [
        ("llava", {"conversations": [{"from": "human", "value": "So?"}]}, ("id", "sample_id"), {}),
        ("m3it", M3IT, ("id",), {}),
        ("sharegpt4video", SHARED, ("video_id",), {}),
        ("captions", {"caption": "A hill.", "name": "a.jpg"}, ("image_id", "id", "key"), {"file": "{name}"}),
    ],
)
def test_an_id_that_is_null_is_none(
    tmp_path: Path, name: str, record: dict[str, Any], keys: tuple[str, ...], options: dict[str, str]
) -> None:
    """Parquet holds null where another row has an id; two samples named "None" could not be told apart."""
    nothing, last = dict.fromkeys(keys), keys[-1]
    path = lines(tmp_path / "a.jsonl", {**record, **nothing}, {**record, **nothing, last: 0}, {**record, **nothing})
    assert [sample.id for sample in reader(name, path, **options)] == ["a-0", "0", "a-2"]


def test_a_number_format_for_a_column_of_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("index,dense_caption\n7,A hill.\n")
    with pytest.raises(DataError, match=r"a\.csv:2: option `file`: '\{index:05d\}\.mp4' does not match columns"):
        reader("miradata", path, file="{index:05d}.mp4")[0]
