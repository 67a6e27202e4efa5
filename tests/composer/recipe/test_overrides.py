"""Flags and environment variables as parts of a recipe."""

import pytest

from composer.errors import ConfigError
from composer.recipe.overrides import from_environment, from_flags, take_flags


def test_flags_of_every_section_in_order() -> None:
    arguments = ["--data.frames=4", "x", "--seed_everything", "7", "--data.frames", "2", "--ckpt_path=last"]
    parts, rest = from_flags(arguments)
    assert [part.plain() for part in parts] == [
        {"data": {"frames": 4}},
        {"seed_everything": 7},
        {"data": {"frames": 2}},
        {"ckpt_path": "last"},
    ]
    assert rest == ["x"]
    assert take_flags(arguments, "data") == (
        [("--data.frames", "4"), ("--data.frames", "2")],
        ["x", "--seed_everything", "7", "--ckpt_path=last"],
    )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--seed_everything.x=1", "--seed_everything.x: expected --seed_everything=VALUE"),
        ("--data=1", "--data: got no key, expected --data.KEY=VALUE"),
        ("--data..x=1", "--data..x: got no key, expected --data.KEY=VALUE"),
    ],
)
def test_a_flag_without_its_form(flag: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_flags([flag])
    assert str(caught.value) == message


def test_variables_are_read_in_alphabetical_order_and_others_ignored() -> None:
    environment = {
        "COMPOSER_DATA__FRAMES": "4",
        "COMPOSER_SEED_EVERYTHING": "true",
        "COMPOSER_CACHE": "x",
        "MY_COMPOSER_DATA__FRAMES": "1",
        "COMPOSER_DATA__BATCH_SIZE": "2",
    }
    parts = from_environment(environment)
    assert [part.plain() for part in parts] == [
        {"data": {"batch_size": 2}},
        {"data": {"frames": 4}},
        {"seed_everything": True},
    ]
    assert str(parts[1].at(["data", "frames"]).origin) == "$COMPOSER_DATA__FRAMES"
