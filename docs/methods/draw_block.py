"""Draws mobilequant-block.svg: one decoder block with every quantizer.

    python docs/methods/draw_block.py

Boxes compute, pills are points (``arch.point``) with bits and zero point. Positions are in pixels, y downwards.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

STYLE = """
svg{font:14px system-ui,"Segoe UI",Helvetica,Arial,sans-serif}
text{fill:#20262e;text-anchor:middle;dominant-baseline:central}
.card{fill:#fcfcfa;stroke:#d3d5d8}
.flow{fill:none;stroke:#6b7480;stroke-width:1.6;marker-end:url(#flow)}
.stream{fill:none;stroke:#e0922f;stroke-width:6;stroke-linejoin:round;stroke-linecap:round}
.op{fill:#eef0f3;stroke:#8a939e;stroke-width:1.2}
.matrix{fill:#dfe3e8;stroke:#5b6570;stroke-width:1.4}
.bold{font-weight:600}
.small{font-size:12px;fill:#56606b}
.left{text-anchor:start}
.legend{font-size:13.5px}
.group{fill:#0c8a63;fill-opacity:.06;stroke:#0c8a63;stroke-dasharray:2 3}
.point{font:13px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}
.zero{font-size:11.5px;fill:#56606b}
.bits{font-weight:700;fill:#fff}
.w8 .body{fill:#eaf1fd;stroke:#2f6fd0}.w8 .chip{fill:#2f6fd0}
.w16 .body{fill:#fdf1e0;stroke:#c9761a}.w16 .chip{fill:#c9761a}
.pair{fill:none;stroke:#0c8a63;stroke-width:2;stroke-dasharray:6 4;marker-end:url(#pair)}
.pairname{fill:#0a6f50;font-weight:600;font-size:13px}
.turn{fill:#7b3fc4}.turnname{fill:#fff;font-size:11.5px;font-weight:700}
.sum{fill:#fdf1e0;stroke:#c9761a;stroke-width:2}
"""
MARKER = (
    '<marker id="{0}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="{2}" markerHeight="{2}" orient="auto"'
    ' markerUnits="userSpaceOnUse"><path d="M0 1 10 5 0 9z" fill="{1}"/></marker>'
)
CHIP, HIGH = 28, 26


class Drawing:
    """SVG elements in the order in which they are painted: arrows first, so that boxes cover their ends."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.boxes: list[str] = []

    def path(self, kind: str, d: str) -> None:
        """A line or an arrow."""
        self.lines.append(f'<path class="{kind}" d="{d}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """Words around (x, y), or from there to the right with the class ``left``."""
        self.boxes.append(f'<text class="{kind}" x="{x}" y="{y}">{words}</text>')

    def box(self, x: float, y: float, words: str, *, kind: str = "op", wide: float = 92, below: str = "") -> None:
        """A computation around (x, y)."""
        high = 42 if below else 32
        self.boxes.append(
            f'<rect class="{kind}" x="{x - wide / 2}" y="{y - high / 2}" width="{wide}" height="{high}" rx="5"/>'
        )
        self.text(x, y - (8 if below else 0), words, "bold" if kind == "matrix" else "")
        if below:
            self.text(x, y + 10, below, "small")

    def point(self, x: float, y: float, name: str, bits: int, zero: str) -> None:
        """A pill around (x, y): bits, name, zero point."""
        words, tail = 8.0 * len(name), 6.6 * len(zero)
        wide = CHIP + words + tail + 28
        left, top = x - wide / 2, y - HIGH / 2
        self.boxes.append(
            f'<g class="w{bits}" data-point="{name}"><rect class="body" x="{left:g}" y="{top}" width="{wide:g}"'
            f' height="{HIGH}" rx="13"/><path class="chip" d="M{left + CHIP:g} {top}h-15a13 13 0 0 0 0 {HIGH}h15z"/>'
            f'<text class="bits" x="{left + 15:g}" y="{y}">{bits}</text>'
            f'<text class="point" x="{left + CHIP + 8 + words / 2:g}" y="{y}">{name}</text>'
            f'<text class="zero" x="{left + CHIP + 15 + words + tail / 2:g}" y="{y}">{zero}</text></g>'
        )

    def matrix(self, x: float, y: float, name: str, *, inputs: str = "", outputs: str = "") -> None:
        """A linear, with the rotations that its columns (inputs) and rows (outputs) absorb."""
        self.box(x, y, name, kind="matrix", wide=104, below="4 or 8 bits")
        for turn, edge in ((inputs, y - 21), (outputs, y + 21)):
            if turn:
                self.turn(x - 52, edge, turn)

    def turn(self, x: float, y: float, name: str) -> None:
        """The badge of a rotation around (x, y)."""
        self.boxes.append(f'<rect class="turn" x="{x - 13}" y="{y - 9}" width="26" height="18" rx="9"/>')
        self.text(x, y, name, "turnname")

    def down(self, x: float, *ys: float) -> None:
        """Arrows straight down through these heights."""
        for start, end in pairwise(ys):
            self.path("flow", f"M{x} {start}V{end}")

    def plus(self, x: float, y: float) -> None:
        """An addition to the residual stream."""
        self.boxes.append(
            f'<circle class="sum" cx="{x}" cy="{y}" r="14"/><path d="M{x - 7} {y}h14M{x} {y - 7}v14" stroke="#8a4f0c"'
            ' stroke-width="2.4"/>'
        )


def attention(d: Drawing) -> None:
    """The left column."""
    stream, q, k, v, mid = 112, 232, 382, 532, 307
    d.path("stream", f"M{stream} 30V905H632V30H740V690")
    d.path("flow", f"M{stream + 3} 72H324")
    d.box(k, 72, "RMSNorm", wide=116, below="gains γ")
    d.point(k, 130, "attn_norm", 8, "z")
    d.down(k, 93, 117)
    for x in (q, k, v):
        d.path("flow", f"M{k} 143C{k} 168 {x} 150 {x} 183")
    d.matrix(q, 205, "q", inputs="R1")
    d.matrix(k, 205, "k", inputs="R1")
    d.matrix(v, 205, "v", inputs="R1", outputs="R2")
    for x, name, zero in ((q, "q", "z"), (k, "k", "z"), (v, "v", "z=128")):
        d.point(x, 266, name, 8, zero)
        d.down(x, 226, 253)
    for x, name, zero in ((q, "q_rope", "z=128"), (k, "k_rope", "z=128")):
        d.box(x, 318, "RoPE", wide=70)
        d.point(x, 372, name, 8, zero)
        d.down(x, 279, 302)
        d.down(x, 334, 359)
        d.path("flow", f"M{x} 385C{x} 408 {mid} 395 {mid} 422")
    d.text(k + 8, 397, "KV cache", "small left")
    d.text(v + 8, 291, "KV cache", "small left")
    d.box(mid, 438, "q · kᵀ / √D", wide=106)
    d.point(mid, 490, "scores", 16, "z=0")
    d.box(mid, 542, "mask, softmax", wide=122)
    d.point(mid, 594, "probs", 8, "1/256, z=0")
    for ys in ((454, 477), (503, 526), (558, 581)):
        d.down(mid, *ys)
    out = k
    d.path("flow", f"M{mid} 607C{mid} 632 {out} 622 {out} 644")
    d.path("flow", f"M{v} 279V600C{v} 640 {out + 60} 660 {out + 47} 660")
    d.box(out, 660, "probs · v")
    d.point(out, 712, "context", 8, "z")
    d.matrix(out, 772, "o", inputs="R2", outputs="R1")
    d.point(out, 834, "o", 16, "z=0")
    for ys in ((676, 699), (725, 750), (793, 821)):
        d.down(out, *ys)
    d.path("flow", f"M{out - 43} 834H{stream + 15}")
    d.plus(stream, 834)
    d.point(stream, 880, "attn_residual", 16, "z=0")
    d.text(stream + 14, 36, "embed, or mlp_residual of the block before", "small left")


def mlp(d: Drawing) -> None:
    """The right column."""
    stream, gate, up = 740, 892, 1062
    mid = (gate + up) // 2
    d.path("flow", f"M{stream + 3} 72H{mid - 58}")
    d.box(mid, 72, "RMSNorm", wide=116, below="gains γ")
    d.point(mid, 130, "mlp_norm", 8, "z")
    d.down(mid, 93, 117)
    for x, name in ((gate, "gate"), (up, "up")):
        d.path("flow", f"M{mid} 143C{mid} 168 {x} 150 {x} 183")
        d.matrix(x, 205, name, inputs="R1")
        d.point(x, 266, name, 8, "z")
        d.down(x, 226, 253)
    d.box(gate, 318, "SiLU or GELU", wide=112)
    d.point(gate, 372, "act", 8, "z")
    d.down(gate, 279, 302)
    d.down(gate, 334, 359)
    d.path("flow", f"M{gate} 385C{gate} 408 {mid - 14} 398 {mid - 14} 422")
    d.path("flow", f"M{up} 279V372C{up} 408 {mid + 14} 398 {mid + 14} 422")
    d.box(mid, 438, "act × up")
    d.point(mid, 490, "product", 8, "z")
    d.matrix(mid, 552, "down", outputs="R1")
    d.point(mid, 614, "down", 16, "z=0")
    for ys in ((454, 477), (503, 530), (573, 601)):
        d.down(mid, *ys)
    d.path("flow", f"M{mid - 55} 614H{stream + 15}")
    d.plus(stream, 614)
    d.point(stream, 662, "mlp_residual", 16, "z=0")
    d.path("stream", f"M{stream} 690V716")
    d.text(stream + 12, 705, "to the next block", "small left")


def pairs(d: Drawing) -> None:
    """Arrows from what is divided to what is multiplied."""
    for left, right in ((172, 592), (832, 1122)):
        d.lines.append(f'<rect class="group" x="{left}" y="174" width="{right - left}" height="62" rx="9"/>')
    d.path("pair", "M441 66C530 66 578 100 578 172")
    d.text(462, 50, "norm → q k v", "pairname left")
    d.path("pair", "M284 205H328")
    d.text(307, 221, "q → k", "pairname")
    d.path("pair", "M585 208C612 226 606 300 606 420C606 640 590 772 436 772")
    d.text(572, 470, "v → o", "pairname")
    d.path("pair", "M1038 66C1084 66 1106 100 1106 172")
    d.text(1046, 50, "norm → gate, up", "pairname left")
    d.path("pair", "M1114 208C1148 226 1142 280 1142 350C1142 470 1110 552 1032 552")
    d.text(1078, 470, "up → down", "pairname")


def legend(d: Drawing) -> None:
    """What the signs mean."""
    x, y = 668, 752
    rows = (
        ("8", "8 bits; z: zero point is learned; z=128, z=0: it is fixed"),
        ("16", "16 bits, zero point 0; the band is the residual stream"),
        ("pair", "scale pair: what is divided → what is multiplied"),
        ("turn", "rotation, in the columns (upper edge) or rows (lower edge)"),
        ("matrix", "weights: symmetric, one scale per output channel or group"),
    )
    for number, (sign, words) in enumerate(rows):
        here = y + 30 * number
        if sign in ("8", "16"):
            d.boxes.append(
                f'<g class="w{sign}"><rect class="chip" x="{x}" y="{here - 10}" width="34" height="20" rx="10"/>'
                f'<text class="bits" x="{x + 17}" y="{here}">{sign}</text></g>'
            )
        elif sign == "pair":
            d.path("pair", f"M{x} {here}h38")
        elif sign == "turn":
            d.turn(x + 17, here, "R1")
        else:
            d.boxes.append(f'<rect class="matrix" x="{x}" y="{here - 9}" width="34" height="18" rx="4"/>')
        d.text(x + 48, here, words, "legend left")


def main() -> None:
    """Write the picture beside this file."""
    d = Drawing()
    for part in (attention, mlp, pairs, legend):
        part(d)
    markers = MARKER.format("flow", "#6b7480", 10) + MARKER.format("pair", "#0c8a63", 12)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1180 925" width="1180" height="925" role="img">'
        "<title>A decoder block with every quantizer, scale pair and rotation</title>"
        f"<style>{STYLE}</style><defs>{markers}</defs>"
        '<rect class="card" x=".5" y=".5" width="1179" height="924" rx="14"/>'
    )
    (Path(__file__).parent / "mobilequant-block.svg").write_text("\n".join([svg, *d.lines, *d.boxes, "</svg>\n"]))


if __name__ == "__main__":
    main()
