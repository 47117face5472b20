"""Draws the medians as bars, in SVG that needs no library."""

from collections.abc import Callable, Iterator
from html import escape

from report import Row, datagrams_per_second, find

_COLOURS = {"down": "#3b6ea5", "up": "#e08e45"}
_WIDTH, _LEFT, _RIGHT, _BAR, _GAP = 900, 130, 90, 12, 8
_Value = Callable[[Row], float | None]


def _panel(title: str, subjects: list[str], top: int, form: str, value: Callable[[str, str], float | None]
           ) -> tuple[list[str], int]:
    """A group of bars for each subject that has any; and where the next panel begins."""
    bars = [(subject, [(way, value(subject, way)) for way in _COLOURS]) for subject in subjects]
    bars = [(subject, [(way, v) for way, v in values if v is not None]) for subject, values in bars]
    most = max((v for _, values in bars for _, v in values), default=0) or 1
    parts = [f'<text x="10" y="{top + 16}" font-weight="bold">{escape(title)}</text>']
    y = top + 28
    for subject, values in bars:
        if not values:
            continue
        middle = y + _BAR * len(values) / 2 + 4
        parts.append(f'<text x="{_LEFT - 8}" y="{middle:g}" text-anchor="end">{escape(subject)}</text>')
        for way, v in values:
            width = (_WIDTH - _LEFT - _RIGHT) * v / most
            parts.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 1}" fill="{_COLOURS[way]}"/>')
            parts.append(f'<text x="{_LEFT + width + 4:.1f}" y="{y + _BAR - 3}" font-size="10">{v:{form}}</text>')
            y += _BAR
        y += _GAP
    return parts, y + _GAP


def draw(rows: list[Row], title: str) -> str:
    subjects = list(dict.fromkeys(row["subject"] for row in rows))

    def of(value: _Value, rate: str | None = None, size: int | None = None) -> Callable[[str, str], float | None]:
        return lambda subject, way: value(row) if (row := find(rows, subject, way, rate, size)) else None

    def panels() -> Iterator[tuple[str, str, Callable[[str, str], float | None]]]:
        yield "HTTP/3: processor time of the relay, µs per 1350 bytes", ".2f", of(lambda row: row["cpu_us"])
        yield ("HTTP/3: goodput, MB/s", ".0f",
               of(lambda row: None if row["goodput"] is None else row["goodput"] / 1e6))
        for size in dict.fromkeys(row["size"] for row in rows if row["rate"] == "max"):
            yield f"datagrams of {size} bytes, flat out: thousands a second that arrived", ",.0f", of(
                lambda row: None if (rate := datagrams_per_second(row)) is None else rate / 1000, "max", size)
            yield f"datagrams of {size} bytes, flat out: processor time of the relay, µs each", ".2f", of(
                lambda row: row["cpu_us"], "max", size)

    parts, y = [f'<text x="10" y="18" font-size="11">{escape(title)}</text>'], 28
    for place, (way, colour) in enumerate(_COLOURS.items()):
        parts.append(f'<rect x="{10 + 70 * place}" y="{y}" width="10" height="10" fill="{colour}"/>'
                     f'<text x="{24 + 70 * place}" y="{y + 9}">{way}</text>')
    y += 20
    for name, form, value in panels():
        more, y = _panel(name, subjects, y, form, value)
        parts += more
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" '
                      f'viewBox="0 0 {_WIDTH} {y}" font-family="sans-serif" font-size="12">',
                      f'<rect width="{_WIDTH}" height="{y}" fill="white"/>', *parts, "</svg>"]) + "\n"
