"""The chart of a day, drawn as SVG: a range run draws one for every day, so it has to cost next to nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from xml.sax.saxutils import escape

WIDTH, ROW, LABEL, GAP = 640, 18, 90, 30
BAR, TEXT, BELOW = "#4f43dd", "#555", "#c2410c"

Bars = Sequence[tuple[str, float]]


def day_chart(title: str, hours: Bars, products: Bars) -> str:
    """Markdown with one picture: revenue by hour above, the top products below. `(label, pounds)` each."""
    parts = [_bars("Revenue by hour", hours, 0)]
    top = GAP + ROW * max(len(hours), 1) + GAP
    parts.append(_bars("Top products", products, top))
    height = top + GAP + ROW * max(len(products), 1)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{TEXT}">{"".join(parts)}</svg>'
    )
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _bars(title: str, bars: Bars, top: int) -> str:
    """One block of horizontal bars; amounts below zero (more returned than sold) have a colour of their own."""
    longest = max((abs(amount) for _, amount in bars), default=0) or 1
    rows = [f'<text x="0" y="{top + 14}" font-weight="bold">{escape(title)}</text>']
    if not bars:
        rows.append(f'<text x="0" y="{top + GAP + 6}">nothing sold</text>')
    for place, (label, amount) in enumerate(bars):
        y = top + GAP - 6 + place * ROW
        width, colour = abs(amount) / longest * (WIDTH - LABEL - 90), BAR if amount >= 0 else BELOW
        rows.append(
            f'<text x="0" y="{y + 12}">{escape(label)}</text>'
            f'<rect x="{LABEL}" y="{y + 2}" width="{width:.1f}" height="{ROW - 5}" fill="{colour}"/>'
            f'<text x="{LABEL + width + 6:.1f}" y="{y + 12}">{amount:,.2f}</text>'
        )
    return "".join(rows)
