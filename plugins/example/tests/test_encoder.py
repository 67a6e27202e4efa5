"""Complete test of a plugin: composer's kit checks the contract."""

from composer.testing import check_encoder
from composer_example import ConvConfig
from composer_example.encoder import ConvEncoder


def test_it_keeps_the_contract() -> None:
    check_encoder(ConvEncoder(**ConvConfig(width=16).model_dump()))
