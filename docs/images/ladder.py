"""Draw docs/images/ladder.svg: HVAE → MHVAE → VDM, and the terms of the bound on the arrows they compare.

python docs/images/ladder.py        # writes ladder.svg beside this file
"""

import re
from pathlib import Path

STYLE = """
  text { font: 15px system-ui, sans-serif; fill: #24292f; }
  .name { font-weight: 600; font-size: 17px; } .small { font-size: 13px; fill: #57606a; }
  .node { fill: #ffffff; stroke: #57606a; stroke-width: 1.5; }
  .encoder { stroke: #57606a; fill: none; stroke-width: 1.5; }
  .fixed { stroke-dasharray: 5 4; }
  .decoder { fill: none; stroke-width: 2.5; }
  .reconstruction { stroke: #1f77b4; } .denoising { stroke: #2ca02c; } .prior { stroke: #ff7f0e; }
  text.reconstruction { fill: #1f77b4; stroke: none; } text.denoising { fill: #2ca02c; stroke: none; }
  text.prior { fill: #ff7f0e; stroke: none; } path.tip { stroke: none; fill: context-stroke; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9198a1; } .node { fill: #0d1117; stroke: #9198a1; } .encoder { stroke: #9198a1; }
  }
"""

X = [330, 450, 570, 690, 810]
"""Centres of the nodes."""

RADIUS = 21

ROWS = [
    ("HVAE", ["every layer sees all the others", "q and p are both learned"], ["x", "z_1", "z_2", "…", "z_T"]),
    ("MHVAE", ["Markov: each layer sees", "its neighbour only"], ["x", "z_1", "z_2", "…", "z_T"]),
    (
        "VDM",
        ["dim x_t = dim x_0, q fixed and Gaussian,", "x_T ≈ N(0, I); one network x̂_0(x_t)"],
        ["x_0", "x_1", "x_2", "…", "x_T"],
    ),
]
"""Each model's name, what it adds to the one above, and its variables."""


def arrow(kind: str, start: int, end: int, y: int, bend: int) -> str:
    """An arrow between two nodes, bent by ``bend`` pixels: upwards for the encoder, downwards for the decoder."""
    step = 1 if end > start else -1
    side = RADIUS * 0.75
    edge = y + (side if bend > 0 else -side)
    x_from, x_to, middle = X[start] + step * side, X[end] - step * side, (X[start] + X[end]) / 2
    return f'<path class="{kind}" marker-end="url(#tip)" d="M{x_from},{edge} Q{middle},{y + bend} {x_to},{edge}"/>'


def indexed(words: str) -> str:
    """Lower the indices: x_T, x_{t−1}."""
    lowered = r'<tspan dy="4" font-size="10">\1</tspan><tspan dy="-4">&#8203;</tspan>'
    return re.sub(r"_\{?(t−1|\w)\}?", lowered, words)


def row(top: int, name: str, notes: list[str], variables: list[str]) -> list[str]:
    """One model: its name, its chain, the encoder's arrows above and the decoder's below."""
    y, last = top + 70, len(X) - 1
    lines = [f'<text class="name" x="20" y="{y - 18}">{name}</text>']
    lines += [f'<text class="small" x="20" y="{y + 5 + 19 * i}">{indexed(note)}</text>' for i, note in enumerate(notes)]
    encoder = "encoder fixed" if name == "VDM" else "encoder"
    longest = 3 if name == "HVAE" else 1
    for step in range(1, longest + 1):
        bend = 30 + 22 * step
        for start in range(last + 1 - step):
            end = start + step
            lines.append(arrow(encoder, start, end, y, -bend))
            term = "reconstruction" if start == 0 else "denoising"
            lines.append(arrow(f"decoder {term}", end, start, y, bend))
    for x, variable in zip(X, variables, strict=True):
        if variable == "…":
            lines.append(f'<text x="{x}" y="{y + 5}" text-anchor="middle">…</text>')
            continue
        ring = ' style="stroke:#ff7f0e;stroke-width:3"' if variable.endswith("T") else ""
        lines.append(f'<circle class="node" cx="{x}" cy="{y}" r="{RADIUS}"{ring}/>')
        lines.append(f'<text x="{x}" y="{y + 5}" text-anchor="middle">{indexed(variable)}</text>')
    return lines


def legend(y: int) -> list[str]:
    """−log p(x) ≤ the three terms, in the colours of the arrows, with the VDM's formulas below."""
    terms = [
        (20, "", "−log p(x)  ≤", ""),
        (140, "reconstruction", "reconstruction", "−E log p(x_0 | x_1)"),
        (330, "prior", "+  prior matching", "KL(q(x_T | x_0) ‖ N(0, I))"),
        (590, "denoising", "+  denoising matching", "Σ KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t))"),
    ]
    lines = [f'<text class="{kind}" x="{x}" y="{y}">{term}</text>' for x, kind, term, _ in terms]
    return lines + [f'<text class="small" x="{x}" y="{y + 22}">{indexed(words)}</text>' for x, _, _, words in terms]


def main() -> None:
    tip = '<path class="tip" d="M0,0 L8,4 L0,8 z"/>'
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 530" role="img"',
        '  aria-label="HVAE, MHVAE and VDM as chains of latent variables, with the terms of the bound">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto"',
        f'  markerUnits="userSpaceOnUse">{tip}</marker></defs>',
    ]
    for top, (name, notes, variables) in zip((20, 180, 310), ROWS, strict=True):
        lines += row(top, name, notes, variables)
    lines.append(
        '<text class="small" x="330" y="452">above the nodes: the encoder q (dashed: fixed) · below: the decoder p</text>'
    )
    lines += legend(492)
    Path(__file__).with_suffix(".svg").write_text("\n".join([*lines, "</svg>", ""]))


if __name__ == "__main__":
    main()
