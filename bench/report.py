"""What a bench leaves behind: a table to read, a plot as SVG and the numbers as JSON, all in `bench/results`."""

import html
import json
import math
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).resolve().parent / "results"
COLOURS: Final = ("#2a6f97", "#c05621", "#4a7c3a", "#7b4b94", "#b8860b", "#8b3a3a", "#5f6b73")
WIDTH, ROW, LEFT, RIGHT = 760, 26, 210, 90

Rows = Sequence[Mapping[str, Any]]


def number(value: object) -> str:
    """Three significant places, thousands apart; text stays as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 3)}f}"


def table(rows: Rows) -> str:
    """A Markdown table; the columns are those of the first row."""
    names = list(rows[0])
    cells = [names, *([number(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]

    def written(line: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    ruler = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([written(cells[0]), ruler, *(written(line) for line in cells[1:])])


def bars(title: str, unit: str, values: Sequence[tuple[str, float]]) -> str:
    """An SVG of horizontal bars, one for each (label, value)."""
    longest = max((value for _, value in values), default=1.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = 44 + ROW * len(values)
    groups = list(dict.fromkeys(label.partition(" · ")[0] for label, _ in values))
    lines = [f'<text x="8" y="22" font-size="15" font-weight="bold">{html.escape(title)}, {html.escape(unit)}</text>']
    for index, (label, value) in enumerate(values):
        y = 36 + index * ROW
        colour = COLOURS[groups.index(label.partition(" · ")[0]) % len(COLOURS)]
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{html.escape(label)}</text>',
            f'<rect x="{LEFT}" y="{y + 2}" width="{max(1.0, value * scale):.1f}" height="18" fill="{colour}"/>',
            f'<text x="{LEFT + value * scale + 6:.1f}" y="{y + 15}">{number(value)}</text>',
        ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(lines)
        + "\n</svg>\n"
    )


def publish(name: str, title: str, rows: Rows, *, plot: tuple[str, str], details: Any = None) -> None:
    """Print the table, and write `name`.json and `name`.svg. `plot` is the column that is drawn, and its unit."""
    print(f"\n{title}\n\n{table(rows)}\n", flush=True)
    RESULTS.mkdir(exist_ok=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    result = {
        "bench": name,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine,
        "rows": rows,
        "details": details,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    column, unit = plot
    values = [(_label(row), float(row[column])) for row in rows if row.get(column) is not None]
    (RESULTS / f"{name}.svg").write_text(bars(title, unit, values))


def _label(row: Mapping[str, Any]) -> str:
    """The first columns of a row, which identify it."""
    return " · ".join(_leading_text(row.values()))


def _leading_text(values: Iterable[Any]) -> list[str]:
    found: list[str] = []
    for value in values:
        if not isinstance(value, str):
            break
        found.append(value)
    return found
