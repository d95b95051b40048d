"""How numbers and sentences are said."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 tile", "2 tiles"; `noun` takes an s as plural.

    >>> counted(1, "tissue tile"), counted(12345, "tile")
    ('1 tissue tile', '12345 tiles')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def sentence(text: str) -> str:
    """Return a text that begins with a capital, the rest as it is.

    >>> sentence("untrained: see DT Grad-CAM")
    'Untrained: see DT Grad-CAM'
    """
    return f"{text[:1].upper()}{text[1:]}"


def percent(share: float) -> str:
    """Return a share of 0 to 1 as percentage that says 0 and 100 % only where that is so: "<1 %", "99 %".

    >>> percent(0.001), percent(0.12), percent(0.9999), percent(1)
    ('<1 %', '12 %', '>99 %', '100 %')
    """
    if 0 < share < 0.01:
        return "<1 %"
    if 0.99 < share < 1:
        return ">99 %"
    return f"{share * 100:.0f} %"
