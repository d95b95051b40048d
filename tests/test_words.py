"""How numbers are said."""

from napari_dala.words import counted, percent


def test_one_thing_is_not_said_as_many() -> None:
    assert [counted(number, "tile") for number in (0, 1, 2)] == ["0 tiles", "1 tile", "2 tiles"]


def test_a_part_is_never_said_to_be_nothing_or_all() -> None:
    shares = (0.0, 1e-6, 0.01, 0.5, 0.99, 1 - 1e-6, 1.0)
    assert [percent(share) for share in shares] == ["0 %", "<1 %", "1 %", "50 %", "99 %", ">99 %", "100 %"]
