"""Conversations and captions in parquet, in several files, and what is wrong with some of them."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from composer.errors import DataError
from composer.sample import Media, Message
from composer_plugins.readers.captions import CaptionsReader
from composer_plugins.readers.llava import LlavaReader

TURNS = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ONEVISION = pa.schema([("id", pa.string()), ("image", IMAGE), ("conversations", TURNS), ("data_source", pa.string())])
"""The columns of LLaVA-OneVision-Data."""


def row(number: int, **change: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"<image>\nWhat is {number}?"}, {"from": "gpt", "value": f"A {number}."}]
    image = {"bytes": b"\x89PNG%d" % number, "path": f"{number}.png"}
    return {"id": f"r{number}", "image": image, "conversations": turns, "data_source": "ai2d"} | change


def onevision(path: Path, *rows: dict[str, Any], group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(list(rows), ONEVISION), path, row_group_size=group)
    return path


def test_llava_onevision(tmp_path: Path) -> None:
    """A folder a subset, the files of each in several parts, images within, or none where text is alone."""
    text = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]
    onevision(tmp_path / "ai2d(gpt4v)/train-00001-of-00002.parquet", *(row(n) for n in (5, 6)))
    first = onevision(tmp_path / "ai2d(gpt4v)/train-00000-of-00002.parquet", *(row(n) for n in range(5)))
    onevision(tmp_path / "magpie_pro/train-00000-of-00001.parquet", row(7, image=None, conversations=text))
    reader = LlavaReader(tmp_path)
    assert [sample.id for sample in reader] == [f"r{n}" for n in range(8)]
    image = Media("image", f"{first}, record 4, image 1", data=b"\x89PNG3")
    assert reader[3].messages == (Message("user", (image, "What is 3?")), Message("assistant", ("A 3.",)))
    assert (reader[3].source, reader[3].meta) == (str(first), {"data_source": "ai2d"})
    assert reader[-1].messages[0].content == ("Hi?",)
    assert reader.location(6) == f"{tmp_path}/ai2d(gpt4v)/train-00001-of-00002.parquet: row 2"


def test_any_order_and_another_process_give_the_same(tmp_path: Path) -> None:
    reader = LlavaReader(onevision(tmp_path / "a.parquet", *(row(n) for n in range(7)), group=3))
    assert [reader[n].id for n in (6, 0, 3, 2)] == ["r6", "r0", "r3", "r2"]
    pickled = pickle.dumps(reader)
    assert len(pickled) < 2000
    assert [sample.id for sample in pickle.loads(pickled)] == [f"r{n}" for n in range(7)]


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    assert LlavaReader(onevision(tmp_path / "a.parquet", row(1)))[0].id == "r1"
    assert LlavaReader(onevision(tmp_path / "a.parquet", row(2)))[0].id == "r2"


def test_an_image_beside_the_file(tmp_path: Path) -> None:
    path = onevision(tmp_path / "a.parquet", row(1, image={"bytes": None, "path": "1.png"}))
    assert LlavaReader(path)[0].media == (Media("image", str(tmp_path / "1.png")),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "more placeholders than media"),
        ({"image": {"bytes": None, "path": None}}, '"image": got None, expected a path or a list of paths'),
        ({"conversations": None}, '"conversations": got NoneType, expected a list of turns'),
    ],
)
def test_bad_row(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = onevision(tmp_path / "a.parquet", row(1), row(2, **change))
    with pytest.raises(DataError) as caught:
        LlavaReader(path)[1]
    assert str(caught.value).startswith(f"{path}: row 2: id 'r2': {message}")


def test_bad_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"empty\.parquet: got no rows"):
        LlavaReader(onevision(tmp_path / "empty.parquet"))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"broken\.parquet: cannot read the parquet file"):
        LlavaReader(broken)
    with pytest.raises(DataError, match=r"gone\.parquet: cannot read the parquet file"):
        LlavaReader(tmp_path / "gone.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"folder: got no parquet files in this folder; use a pattern for other files"):
        LlavaReader(tmp_path / "folder")
    with pytest.raises(DataError, match=r"\*\.json: no file matches this pattern"):
        LlavaReader(tmp_path / "*.json")


def test_a_damaged_row_group(tmp_path: Path) -> None:
    path = onevision(tmp_path / "a.parquet", *(row(n) for n in range(4)))
    reader, data = LlavaReader(path), bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.parquet: row 1: cannot read this row"):
        reader[0]
    assert reader[3].id == "r3"


def test_without_pyarrow_json_is_read_and_parquet_says_what_to_install(tmp_path: Path) -> None:
    path = onevision(tmp_path / "a.parquet", row(1))
    (tmp_path / "a.jsonl").write_text(json.dumps({"conversations": row(1)["conversations"], "image": "a.png"}))
    code = f"""
import sys
sys.modules["pyarrow"] = None
from composer_plugins.readers.llava import LlavaReader
assert len(LlavaReader({str(tmp_path / "a.jsonl")!r})) == 1
LlavaReader({str(path)!r})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'multimodal-composer[parquet]'" in run.stderr.splitlines()[-1]


def test_files_of_a_pattern_have_their_own_folders(tmp_path: Path) -> None:
    """LLaVA-Video-178K: a folder a subset, whose videos lie beside its JSON."""
    for name in ("0_30_s_a", "1_2_m_a"):
        (tmp_path / name).mkdir()
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A."}]
        record = {"id": name, "video": "x/v.mp4", "conversations": turns, "data_source": name}
        (tmp_path / name / f"{name}_cap_processed.json").write_text(json.dumps([record]))
        (tmp_path / name / f"{name}_oe_processed.json").write_text("[]")
    reader = LlavaReader(tmp_path / "*/*_cap_processed.json")
    assert [sample.media[0].path for sample in reader] == [
        str(tmp_path / n / "x/v.mp4") for n in ("0_30_s_a", "1_2_m_a")
    ]


def captions(path: Path, **options: Any) -> CaptionsReader:
    return CaptionsReader(path, **({"question": "Describe it.", "caption": "caption"} | options))


def test_densefusion(tmp_path: Path) -> None:
    """As its download script names the images; its archives may have them at `image_path`."""
    path = tmp_path / "DenseFusion-1M.jsonl"
    record = {"image_id": "000001", "url": "where.it/was.jpg", "caption": "A hill in fog."}
    path.write_text(json.dumps(record) + "\n")
    (sample,) = captions(path, file="{image_id}.png", media_root="/images")
    image = Media("image", "/images/000001.png")
    assert sample.messages == (Message("user", (image, "Describe it.")), Message("assistant", ("A hill in fog.",)))
    assert (sample.id, sample.source, sample.meta) == ("000001", str(path), {"url": "where.it/was.jpg"})


def test_facecaption(tmp_path: Path) -> None:
    """A list of one caption, and of LAION's, an image."""
    row = {"_id": "a1", "caption": ["A face."], "url": "x", "laion_caption": ["Sale"], "box": "[1, 2, 3, 4]"}
    path = tmp_path / "FaceCaption-v2.parquet"
    parquet.write_table(pa.Table.from_pylist([row, row | {"caption": ["A.", "B."]}]), path)
    reader = captions(path, file="{_id}.jpg")
    assert reader[0].messages[1].content == ("A face.",)
    assert (reader[0].id, reader[0].media[0].path) == ("a1", str(tmp_path / "a1.jpg"))
    assert set(reader[0].meta) == {"url", "laion_caption", "box"}
    with pytest.raises(DataError, match=r"v2\.parquet: row 2: \"caption\": got \['A\.', 'B\.'\], expected text"):
        reader[1]


def test_rows_as_img2dataset_writes_them(tmp_path: Path) -> None:
    """Folders of ten thousand, each with a parquet file of the same name beside it."""
    rows = [{"key": f"00001000{n}", "url": "x", "face_caption": f"Face {n}.", "status": "success"} for n in range(3)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "00001.parquet")
    reader = captions(tmp_path, caption="face_caption", file="{key:.5}/{key}.jpg")
    assert [sample.media[0].path for sample in reader] == [f"{tmp_path}/00001/00001000{n}.jpg" for n in range(3)]
    assert [sample.id for sample in reader] == [f"00001000{n}" for n in range(3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caption": ""}, "\"caption\": got '', expected text"),
        ({"image_id": None}, "\"image_id\": got None, expected text for the path '{image_id}.png'"),
    ],
)
def test_bad_caption(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    good = {"image_id": "1", "caption": "A hill."}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(DataError) as caught:
        captions(path, file="{image_id}.png")[1]
    assert str(caught.value) == f"{path}:2: {message}"


def test_a_pattern_of_names_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"option `file`: got '\{key', expected keys in braces"):
        captions(tmp_path / "a.jsonl", file="{key")


def test_a_number_where_the_pattern_wants_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"key": "123456", "caption": "A hill."}\n{"key": 123456, "caption": "A hill."}\n')
    reader = captions(path, file="{key:.5}/{key}.jpg")
    assert reader[0].media[0].path == f"{tmp_path}/12345/123456.jpg"
    with pytest.raises(DataError) as caught:
        reader[1]
    message = f"{path}:2: option `file`: '{{key:.5}}/{{key}}.jpg' does not match key=123456: "
    assert str(caught.value).startswith(message)
