"""Numbers with a unit or sign: ``23 years``, ``1,60 m``, ``$1,200.00``, ``35%``, ``5'11"``; told from whole columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SIGNS = {"$": "$", "us$": "$", "usd": "$", "€": "€", "eur": "€", "£": "£", "gbp": "£", "¥": "¥", "jpy": "¥", "₹": "₹"}
_SPELLINGS = {  # unit → how it is written, besides
    "years": "y yr yrs year yo y/o y.o. years_old year_old yrs_old ans jahre años anni",
    "months": "mo mos mth month",
    "weeks": "wk wks week",
    "days": "day",
    "h": "hr hrs hour hours",
    "min": "mins minute minutes",
    "s": "sec secs second seconds",
    "ms": "msec",
    "m": "meter meters metre metres",
    "cm": "cms centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres",
    "km": "kilometer kilometers kilometre kilometres",
    "in": 'inch inches " ″',
    "ft": "foot feet ' ′",
    "mi": "mile miles",
    "kg": "kgs kilo kilos kilogram kilograms",
    "g": "gr gram grams",
    "mg": "milligram milligrams",
    "lb": "lbs pound pounds",
    "oz": "ounce ounces",
    "%": "percent pct",
    "°": "deg degree degrees",
    "°c": "celsius",
    "°f": "fahrenheit",
    "px": "pixel pixels",
    "m²": "sqm",
    "km/h": "kmh kph",
    "mph": "",
    "bpm": "",
    "hz": "",
    "kcal": "cal",
    "ml": "milliliter milliliters",
    "l": "liter liters litre litres",
}
_UNITS = {
    word.replace("_", " "): unit for unit, words in _SPELLINGS.items() for word in (unit, *words.split())
} | _SIGNS
_FEET = re.compile(r"(\d{1,2})\s*(?:'|′|ft\.?|feet)\s*(\d{1,2}(?:\.\d+)?)\s*(?:\"|″|''|in\.?|inches)?")
_CELL = re.compile(r"([^\w\s.,+-]|[A-Za-z]{2,3}\$?)?\s*([-+−]?(?:\d[\d.,'’\xa0\u202f ]*|\.\d+))(?<!\s)(\s*)(\D*)")
_COMMAS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")  # 1,200.00
_POINTS = re.compile(r"\d{1,3}(?:\.\d{3})*(?:,\d+)?|\d+,\d+")  # 1.200,00
_GROUPS = re.compile(r"\d{1,3}(?:['’\xa0\u202f ]\d{3})+")
_PLAIN = re.compile(r"(?:0|[1-9]\d*)?(?:\.\d+)?")  # 007 is a code
_MOSTLY, _OFTEN = 0.9, 0.2  # of the cells: are numbers, and have the unit
_LONGEST = 24  # characters of a cell
_DIFFERENT = 5  # numbers before a word that is not known as a unit


@dataclass(frozen=True)
class Unit:
    """What stands beside the numbers of a column.

    Attributes:
        name: the unit or sign.
        example: a cell as it is written.
        decimal_comma: True if a comma stands in place of the point, and does not divide thousands.
    """

    name: str
    example: str = ""
    decimal_comma: bool = False

    def number(self, cell: str) -> str:
        """Return the number of a cell, written with a point; the cell itself if it is none of this unit."""
        if found := _FEET.fullmatch(cell.strip()):
            return f"{12 * int(found[1]) + float(found[2]):g}"
        read = _read(cell)
        number = _plain(read[0], self.decimal_comma) if read and read[1] in ("", self.name) else None
        return cell if number is None else number

    @property
    def described(self) -> str:
        """How the example is read, for people."""
        return f"'{self.example}' is {self.number(self.example)}"


def find_unit(cells: Mapping[str, int]) -> Unit | None:
    """Return the one unit that (nearly) all numbers of a column have; some may lack it. None if there is none.

    Args:
        cells: the text of each cell → how often it occurs.
    """
    total = sum(cells.values())
    if feet := [cell for cell in cells if _FEET.fullmatch(cell.strip())]:
        fits = sum(cells[cell] for cell in feet) >= _MOSTLY * total
        return Unit("inches", feet[0]) if fits else None
    found = {cell: read for cell in cells if (read := _read(cell))}
    units = {unit for _, unit in found.values() if unit}
    named = [cell for cell, (_, unit) in found.items() if unit]
    if len(units) != 1 or sum(cells[cell] for cell in named) < _OFTEN * total:
        return None
    name = units.pop()
    comma = _has_decimal_comma([number for number, _ in found.values()])
    numbers = {cell: number for cell, (text, _) in found.items() if (number := _plain(text, comma)) is not None}
    if sum(cells[cell] for cell in numbers) < _MOSTLY * total:
        return None
    if name not in _UNITS.values() and (len(named) < len(cells) or len({*numbers.values()}) < _DIFFERENT):
        return None
    return Unit(name, next((cell for cell in named if "," in cell), named[0]), comma)


def is_measured(cell: object) -> bool:
    """Return True if a cell is a number with a unit that is known."""
    read = _read(cell) if isinstance(cell, str) else None
    return read is not None and read[1] in _UNITS.values()


def _read(cell: str) -> tuple[str, str] | None:
    """Return the number of a cell as it is written, and its unit, "" if it has none; None for other cells."""
    text = cell.strip()
    found = _CELL.fullmatch(text) if len(text) <= _LONGEST else None
    if not found:
        return None
    before, number, blanks, after = found[1] or "", found[2], found[3], found[4].strip()
    if before:
        sign = _SIGNS.get(before.lower())
        return (number, sign) if sign and not after else None
    if not after:
        return number, ""
    known = _UNITS.get(after if len(after) == 1 else after.lower().rstrip("."))
    if known or not (blanks and after.isalpha() and len(after) > 2):
        return (number, known) if known else None
    return number, after.lower().removesuffix("s")


def _has_decimal_comma(numbers: list[str]) -> bool:
    """Return True if commas in numbers stand for the point: they are not before three digits each time."""
    with_comma = [number.lstrip("-+−") for number in numbers if "," in number]
    return any(not _COMMAS.fullmatch(number) or number.startswith("0") for number in with_comma)


def _plain(number: str, decimal_comma: bool) -> str | None:
    """Return a number with a point and without signs between thousands; None if it is none."""
    sign, text = ("-", number[1:]) if number[0] in "-−" else ("", number.removeprefix("+"))
    if _GROUPS.match(text):
        text = re.sub(r"['’\xa0\u202f ]", "", text)
    if decimal_comma and _POINTS.fullmatch(text):
        text = text.replace(".", "").replace(",", ".") if "," in text else text
    elif _COMMAS.fullmatch(text):
        text = text.replace(",", "")
    return f"{sign}{text}" if text and _PLAIN.fullmatch(text) else None
