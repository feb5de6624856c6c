"""What is printed: progress while it runs, a table at the end, or JSON."""

import os
import platform
import sys
import textwrap
import time
from dataclasses import asdict, dataclass

RULE = "─"
WIDTH = 120


@dataclass(frozen=True)
class Figure:
    """What was measured of one promise. A figure without a limit is only told."""

    benchmark: str
    name: str
    value: float
    unit: str
    limit: float | None = None
    least: bool = False  # the limit is the least that it may be, else the most

    def holds(self):
        if self.limit is None:
            return None
        return self.value >= self.limit if self.least else self.value <= self.limit


class Progress:
    """Tells on standard error what is going on: one line that changes on a terminal, else a line for each step."""

    def __init__(self, stream=sys.stderr):
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.begun = time.monotonic()
        self.told = ""

    def begin(self, benchmark, about):
        self.clear()
        print(f"{benchmark}: {about}", file=self.stream, flush=True)

    def step(self, text):
        """Something that changes by itself: only a terminal shows all of it."""
        if self.is_terminal:
            line = f"  {time.monotonic() - self.begun:5.0f} s  {text}"[: os.get_terminal_size(self.stream.fileno()).columns - 1]
            print(f"\r\x1b[K{line}", end="", file=self.stream, flush=True)
            self.told = line

    def note(self, text):
        """Something that stays."""
        self.clear()
        print(f"  {time.monotonic() - self.begun:5.0f} s  {text}", file=self.stream, flush=True)

    def clear(self):
        if self.told:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
            self.told = ""


def machine():
    """What the figures were taken on."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def as_json(figures, notes, before):
    """Everything, for scripts."""
    shown = [asdict(figure) | {"holds": figure.holds()} for figure in figures]
    is_kept = all(figure.holds() is not False for figure in figures)
    return {"holds": is_kept, "machine": before, "figures": shown, "notes": notes}


def table(figures, notes, before):
    """The table, a line for each figure, and how they were taken."""
    rows = [(figure.benchmark, figure.name, number(figure.value, figure.unit), limit(figure), verdict(figure)) for figure in figures]
    heads = ("benchmark", "figure", "measured", "promised", "")
    widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(5)]
    lines = [row_of(heads, widths), "  ".join(RULE * width for width in widths)]
    last = None
    for row in rows:
        if last not in (None, row[0]):
            lines.append("")
        lines.append(row_of((row[0] if row[0] != last else "", *row[1:]), widths))
        last = row[0]
    lines.append("")
    for name, note in notes.items():
        lines.extend(textwrap.wrap(f"{name}: {note}", WIDTH, subsequent_indent="  "))
    lines.append(f"taken on {before['cores']} cores of {before['system']}, load {before['load_average']} when it began")
    missed = sum(figure.holds() is False for figure in figures)
    kept = sum(figure.holds() is True for figure in figures)
    lines.append(f"{kept} promises kept, {missed} missed")
    return "\n".join(line.rstrip() for line in lines)


def row_of(cells, widths):
    benchmark, name, measured, promised, holds = (cell.ljust(width) for cell, width in zip(cells, widths))
    return f"{benchmark}  {name}  {measured.strip().rjust(widths[2])}  {promised}  {holds}"


def number(value, unit):
    text = f"{value:,.0f}" if value == int(value) else f"{value:,.2f}" if value < 100 else f"{value:,.1f}"
    return f"{text} {unit}".rstrip()


def limit(figure):
    if figure.limit is None:
        return ""
    return f"{'≥' if figure.least else '≤'} {number(figure.limit, figure.unit)}"


def verdict(figure):
    return {None: "", True: "kept", False: "MISSED"}[figure.holds()]
