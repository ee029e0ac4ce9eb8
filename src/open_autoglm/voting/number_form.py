"""The number that a text comes to, as one exact form: equal values are equal texts, other units are other answers.

| written | form |
|---|---|
| `1,234.50`, `1.234,5`, `1234½`, `2469/2` | `2469/2` |
| `1.5e3`, `1.5 × 10^3`, `1.5 × 10³` | `1500` |
| `50%`, `50 percent`, `百分之五十` | `50%`, never `1/2`: whether a share or points are meant is not told |
| `$5`, `5 dollars`; `3 km`, `3000 m`; `2 小时` | `5 usd`; `3000 m`; `7200 s` |
| `三百二十`, `3.5万` | `320`, `35000` |
| `60 km/h`, `5 m^2` | as they are |
| `12 apples` | `12`: words that are no units are dropped |

Invariants: reading a form gives it again; no number has more than `DIGITS_MAX` digits: a longer one is not read.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from open_autoglm.voting.plain_text import named_answer, plain

DIGITS_MAX: Final = 400
_SCAN_MAX: Final = 20_000
"""Characters at a text's end in which a number is looked for."""

_DIGITS: Final = r"""
    (?:\d{1,3}(?:\.\d{3})+,\d+          # 1.234,56
    | \d{1,3}(?:\.\d{3}){2,}(?![\d.])   # 1.234.567
    | \d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)(?:\.\d+)?   # 1,234.56 and 12,34,567
    | \d{1,3}(?:'\d{3})+(?!\d)(?:[.,]\d+)?  # 1'234.56
    | \d+(?:\.\d+)? | \.\d+)
"""
_NUMBER: Final = re.compile(
    rf"""
    (?P<share>百分之\ ?)?
    (?P<money>US\$|[$€£¥]|\b(?:USD|EUR|GBP|CNY|RMB)\ )?\ ?
    (?P<sign>(?<![\w)\]%])[-+](?=[\d.$€£¥\\]))?
    (?P<inner_money>[$€£¥])?
    (?:\\[dt]?frac\{{(?P<over>\d{{1,400}})\}}\{{(?P<under>\d{{1,400}})\}}
    | (?<![A-Za-z_\d])(?<!\d\.)(?P<whole>{_DIGITS})
      (?:\ (?P<mixed_over>\d{{1,9}})/(?P<mixed_under>\d{{1,9}})(?![\d/]|\.\d)
       | \^\{{?(?P<raised>\d{{1,3}})\}}?
       | \ ?/\ ?(?P<below>\d{{1,400}})(?![\d/]|\.\d))?
      (?:[eE](?P<exponent>[-+]?\d{{1,3}})(?!\w)
       | \ ?(?:×|\*|x|·|\\times|\\cdot)\ ?10\^\{{?(?P<power>[-+]?\d{{1,3}})\}}?)?
    )
    (?P<scale>\ ?(?:万|亿|千(?![克米])|百(?!分)|million\b|billion\b|thousand\b))?
    (?:\ ?\\?(?P<percent>%|percent\b|per\ cent\b)
     | \ ?(?P<unit>[a-zA-Zµ]+(?:\^-?\d)?(?:/[a-zA-Z]+(?:\^\d)?)?(?![-'\w])
       | 公里|千米|厘米|毫米|米|公斤|千克|毫克|克|吨|毫秒|秒钟?|分钟|个?小时|天|美元|欧元|英镑|人民币|元|块|毫升|升))?
    """,
    re.VERBOSE,
)
_LATEX_TEXT: Final = re.compile(r"\s*\\(?:text|mathrm|mbox|rm)\s?\{([^{}]{0,40})\}")
_MATHS: Final = re.compile(r"(?<!\\)\$(?=\S)([^$\n]{1,200})(?<=[^\s\\])\$(?!\d)")
"""`$42$` is mathematics; `$5 and $6` is money."""
_SYMBOL: Final = re.compile(r"√|π|\\(?:sqrt|pi|log|ln|infty)\b|\b(?:sqrt|pi)\b|∞")
_NUMERAL: Final = "零〇一二两三四五六七八九十百千万亿"
_CHINESE: Final = re.compile(
    rf"(?:([{_NUMERAL}]{{1,40}})分之)?(负)?([{_NUMERAL}]{{1,40}})(?:点([零〇一二三四五六七八九]{{1,40}}))?"
)
_CHINESE_DIGITS: Final = {character: value for value, character in enumerate("零一二三四五六七八九")} | {
    "〇": 0,
    "两": 2,
}
_CHINESE_PLACES: Final = {"十": 10, "百": 100, "千": 1000}
_SCALES: Final = {
    "百": 10**2,
    "千": 10**3,
    "thousand": 10**3,
    "万": 10**4,
    "million": 10**6,
    "亿": 10**8,
    "billion": 10**9,
}
_MONEY: Final = {
    "us$": "usd", "$": "usd", "usd": "usd", "dollar": "usd", "dollars": "usd", "美元": "usd",
    "€": "eur", "eur": "eur", "euro": "eur", "euros": "eur", "欧元": "eur",
    "£": "gbp", "gbp": "gbp", "pounds": "gbp", "英镑": "gbp",
    "¥": "cny", "cny": "cny", "rmb": "cny", "yuan": "cny", "元": "cny", "块": "cny", "人民币": "cny",
}  # fmt: skip
_UNITS: Final[dict[str, tuple[str, Fraction]]] = {
    name: (unit, Fraction(factor))
    for unit, factor, names in (
        ("m", "1000", "km 公里 千米 kilometers kilometres kilometer kilometre"),
        ("m", "1", "m 米 meters metres meter metre"),
        ("m", "1/100", "cm 厘米 centimeters centimetres centimeter centimetre"),
        ("m", "1/1000", "mm 毫米 millimeters millimetres millimeter millimetre"),
        ("mile", "1", "mile miles"),
        ("g", "1000000", "吨 tonnes tonne"),
        ("g", "1000", "kg 公斤 千克 kilograms kilogram"),
        ("g", "1", "g 克 grams gram"),
        ("g", "1/1000", "mg 毫克 milligrams milligram"),
        ("s", "86400", "days day 天"),
        ("s", "3600", "hours hour hrs h 小时 个小时"),
        ("s", "60", "minutes minute min mins 分钟"),
        ("s", "1", "seconds second sec s 秒 秒钟"),
        ("s", "1/1000", "ms 毫秒 milliseconds"),
        ("l", "1", "liters litres liter litre l 升"),
        ("l", "1/1000", "ml 毫升"),
    )
    for name in names.split()
}


def number_form(text: str) -> str:
    """Return the form of the number that a text comes to; empty where it has none.

    That is the one it names as its answer, behind the last `=` there; else the last one in the text. An answer with
    roots or other symbols is none.
    """
    text = without_latex(plain(text))
    named = named_answer(text)
    if named is not None:
        if symbolic(named):
            return ""
        named = named[max(named.rfind("="), named.rfind("≈")) + 1 :] or named
        forms = number_forms(named[:_SCAN_MAX])
        if forms:
            return forms[0][0]
    forms = number_forms(text[-_SCAN_MAX:])
    return forms[-1][0] if forms else ""


def symbolic(text: str) -> bool:
    """Whether a plain text holds symbols that make more of its numbers than they are: `2π`, `3\\sqrt{2}`."""
    return _SYMBOL.search(text) is not None


def without_latex(text: str) -> str:
    """Return a plain text without the LaTeX that only sets a number: `$1{,}234\\,\\text{km}$`."""
    if "\\" not in text and "$" not in text and "{,}" not in text:
        return text
    spaced = text.replace("{,}", ",").replace(",\\!", ",").replace("\\,", " ")
    return _MATHS.sub(r"\1", _LATEX_TEXT.sub(r" \1", spaced))


def number_forms(text: str) -> list[tuple[str, int, int]]:
    """Return the forms of all numbers of a plain text, each with where it starts and ends there.

    Chinese numerals are read only where there are no digits: 一 is a word as well.
    """
    found = []
    for match in _NUMBER.finditer(text):
        form = _form(match)
        if form:
            found.append((form, match.start(), match.end()))
    if found:
        return found
    for match in _CHINESE.finditer(text):
        form = _chinese_form(match)
        if form:
            found.append((form, match.start(), match.end()))
    return found


def _form(match: re.Match[str]) -> str:
    value = _value(match)
    if value is None:
        return ""
    if match["percent"] or match["share"]:
        return _written(value) + "%"
    unit = match["unit"] or ""
    if "/" in unit or "^" in unit:
        return f"{_written(value)} {unit.lower()}"
    unit = unit if len(unit) == 1 else unit.lower()  # 5 M and 5 G are no metres and grams
    money = (match["money"] or match["inner_money"] or "").strip().lower()
    currency = _MONEY.get(money) or _MONEY.get(unit)
    if currency:
        return f"{_written(value)} {currency}"
    if unit in _UNITS:
        name, factor = _UNITS[unit]
        return f"{_written(value * factor)} {name}"
    return _written(value)


def _value(match: re.Match[str]) -> Fraction | None:
    """The number, exact; None where it is too long or divides by 0."""
    if match["over"] is not None:
        over, under = int(match["over"]), int(match["under"])
        value = Fraction(over, under) if under else None
    else:
        value = _decimal(match["whole"])
        if value is not None and match["mixed_over"] is not None and int(match["mixed_under"]):
            value += Fraction(int(match["mixed_over"]), int(match["mixed_under"]))
        elif value is not None and match["below"] is not None:
            below = int(match["below"])
            value = value / below if below else None
    if value is not None and match["raised"] is not None:
        value = value ** int(match["raised"]) if len(match["whole"]) * int(match["raised"]) <= DIGITS_MAX else None
    if value is None:
        return None
    value *= Fraction(10) ** int(match["exponent"] or match["power"] or 0)
    if match["scale"]:
        value *= _SCALES[match["scale"].strip().lower()]
    if max(abs(value.numerator), value.denominator) >= 10**DIGITS_MAX:
        return None
    return -value if match["sign"] == "-" else value


def _decimal(digits: str) -> Fraction | None:
    if len(digits) > DIGITS_MAX:
        return None
    comma, dot = digits.rfind(","), digits.rfind(".")
    if (comma > dot >= 0) or (comma >= 0 and "'" in digits):  # 1.234,56
        digits = digits.replace(".", "").replace(",", ".")
    elif digits.count(".") > 1:  # 1.234.567
        digits = digits.replace(".", "")
    return Fraction(re.sub("[,']", "", digits))


def _chinese_form(match: re.Match[str]) -> str:
    """Read 三百二十, 二〇二六, 十二点五, 三分之一, 百分之五; empty where it divides by 0."""
    value = Fraction(_chinese_whole(match[3]))
    if match[4]:
        after = "".join(str(_CHINESE_DIGITS[digit]) for digit in match[4])
        value += Fraction(int(after), 10 ** len(after))
    if match[2]:
        value = -value
    if match[1] == "百":
        return _written(value) + "%"
    below = _chinese_whole(match[1]) if match[1] else 1
    return _written(value / below) if below else ""


def _chinese_whole(digits: str) -> int:
    if all(digit in _CHINESE_DIGITS for digit in digits):
        return int("".join(str(_CHINESE_DIGITS[digit]) for digit in digits))
    return _chinese_places(digits)


def _chinese_places(digits: str) -> int:
    total = section = digit = 0
    for character in digits:
        if character in _CHINESE_DIGITS:
            digit = _CHINESE_DIGITS[character]
        elif character in _CHINESE_PLACES:
            section += (digit or 1) * _CHINESE_PLACES[character]
            digit = 0
        else:
            big = _SCALES[character]
            total = (total + section + digit) * big if big == 10**8 else total + (section + digit) * big
            section = digit = 0
    return total + section + digit


def _written(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"
