"""Conformance kit: checks that a part follows composer's contract, in one line of a plugin's own tests.

    from composer.testing import check_encoder

    def test_it_keeps_the_contract():
        check_encoder(MyEncoder(dim=32))

Each check raises AssertionError with the actual value, the expected value and the remedy. Use small parts: the checks
run on the CPU in float32, some of them several times.
"""

from composer.testing.backbone import check_backbone
from composer.testing.encoder import check_encoder
from composer.testing.projector import check_projector
from composer.testing.reducer import check_reducer

__all__ = ["check_backbone", "check_encoder", "check_projector", "check_reducer"]
