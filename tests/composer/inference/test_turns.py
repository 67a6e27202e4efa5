"""A model that has learned an answer of two paragraphs says it to its end."""

import pytest
import torch

from composer.batch import Clip
from composer.evaluation.accuracy import measure
from composer.evaluation.answers import Answer
from composer.inference.generate import generate, stream
from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.sample import Media, Message, Sample
from composer.tokenizer import tokenizer_from
from composer_plugins.rwkv.backbone import RWKV6Backbone
from tests.composer.stand_ins import LinearProjector, MeanEncoder

WORDS = ["User:", "Assistant:", "\n\n", "red square.", "green ring.", "Describe", "the picture."]


@pytest.mark.parametrize("ending", ["\n\n", "\r\n \r\n"])
def test_accuracy_of_what_is_said_is_that_of_what_is_trained(ending: str) -> None:
    torch.manual_seed(0)
    backbone = RWKV6Backbone(tokenizer=tokenizer_from(WORDS), width=64, depth=1)
    projector = LinearProjector(in_dim=3, out_dim=64)
    model = MultimodalModel(MeanEncoder(), [], projector, backbone, "media-first")
    turns = (
        Message("user", (Media("image", "a.jpg"), "\nDescribe the picture.")),
        Message("assistant", (f"red square.{ending}green ring.",)),
    )
    sample, clip = Sample("s", "f", turns), Clip(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1))
    batch, question = (collate([model.processor.encode(sample, [clip], answer=answer)]) for answer in (False, True))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        out = model(batch)
        out.loss.backward()
        optimizer.step()
    assert out.correct == out.targets
    [said] = generate(model.eval(), question, max_new_tokens=20)
    assert "".join(stream(model, question, max_new_tokens=20)) == said == "red square.\ngreen ring."
    assert measure([Answer("s", said, references=question.answers)]).overall.accuracy == {"normal": 1}
