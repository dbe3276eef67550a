"""Schematics: what words alone do not show. Boxes are parts of a model, rounded ones are data, grey text says what happens.

A drawing is a list of boxes (name, text, x, y, width, kind) and of arrows (from, to, text, kind) on a plane of unit squares.
"""

from dataclasses import dataclass, field

from matplotlib.patches import FancyBboxPatch

from .base import Picture

FILL = {"part": "#cfe2f3", "data": "#f6f6f6", "chosen": "#fde3c0", "words": "#ffffff"}
EDGE = {"part": "#2a6f97", "data": "#8a8a8a", "chosen": "#b8630b", "words": "#ffffff"}
LINE = {  # colour, line, head, bend
    "": ("#444444", "-", "-|>", 0), "frozen": ("#444444", "--", "-|>", 0), "chosen": ("#b8630b", "-", "-|>", 0),
    "both": ("#b8630b", "-", "<|-|>", 0), "back": ("#2a6f97", ":", "-|>", 0), "curve": ("#2a6f97", ":", "-|>", -0.36),
}  # fmt: skip
HEIGHT = 0.72  # of a box


@dataclass(frozen=True)
class Drawing:
    size: tuple[float, float]  # of the plane
    says: str  # the alternative text
    boxes: list[tuple[str, str, float, float, float, str]]
    arrows: list[tuple[str, str, str, str]] = field(default_factory=list)


DRAWINGS = {
    "clip": Drawing(
        (10, 3.2),
        "An image goes through an image model and a text through a text model; both end in vectors of one joint space, and the "
        "cosine of the two says how well they fit.",
        [
            ("image", "image I", 1, 2.4, 1.5, "data"), ("text", "text t", 1, 0.8, 1.5, "data"),
            ("vision", "image model", 3.7, 2.4, 2, "part"), ("language", "text model", 3.7, 0.8, 2, "part"),
            ("m", "M(I)", 6.4, 2.4, 1.3, "data"), ("mt", "M_text(t)", 6.4, 0.8, 1.5, "data"),
            ("cos", "cosine", 8.9, 1.6, 1.4, "chosen"),
        ],
        [("image", "vision", "", ""), ("text", "language", "", ""), ("vision", "m", "", ""), ("language", "mt", "", ""),
         ("m", "cos", "", ""), ("mt", "cos", "", "")],
    ),
    "residual stream": Drawing(
        (13, 3.4),
        "The residual stream runs from the embedded patches to the last norm and projection. Attention and MLP of each layer read "
        "it through a layer norm and add to it.",
        [
            ("in", "patches and\nclass token", 1, 0.8, 1.7, "data"),
            ("p1", "+", 3.4, 0.8, 0.5, "data"), ("a1", "norm, attention\nlayer 0", 3.4, 2.5, 1.9, "part"),
            ("p2", "+", 5.8, 0.8, 0.5, "data"), ("m1", "norm, MLP\nlayer 0", 5.8, 2.5, 1.7, "part"),
            ("dots", "…", 7.5, 0.8, 0.6, "words"), ("p3", "+", 9.1, 0.8, 0.5, "data"),
            ("m2", "norm, MLP\nlayer L−1", 9.1, 2.5, 1.7, "part"),
            ("out", "norm, P", 10.8, 0.8, 1.2, "part"), ("m", "M(I)", 12.3, 0.8, 0.9, "chosen"),
        ],
        [("in", "p1", "", ""), ("p1", "p2", "", ""), ("p2", "dots", "", ""), ("dots", "p3", "", ""), ("p3", "out", "", ""),
         ("out", "m", "", ""), ("a1", "p1", "reads, adds", "both"), ("m1", "p2", "reads, adds", "both"),
         ("m2", "p3", "reads, adds", "both")],
    ),
    "head and tokens": Drawing(
        (13, 3.9),
        "A head weighs each token by α, its attention from the class token, maps it by its value and output matrices, and adds all "
        "up at the class token. Through the last norm and the projection each summand is a vector of the joint space: the effect "
        "of one head at one token.",
        [
            ("x1", "token 1", 0.9, 3.2, 1.4, "data"), ("x2", "token i", 0.9, 2.0, 1.4, "data"),
            ("x3", "token N", 0.9, 0.8, 1.4, "data"),
            ("v1", "norm, value and\noutput matrix", 3.6, 3.2, 2.1, "part"),
            ("v2", "norm, value and\noutput matrix", 3.6, 2.0, 2.1, "part"),
            ("v3", "norm, value and\noutput matrix", 3.6, 0.8, 2.1, "part"),
            ("sum", "+", 7.2, 2.0, 0.5, "data"), ("cls", "class token", 8.85, 2.0, 1.4, "data"),
            ("p", "last norm, P", 10.8, 2.0, 1.5, "part"), ("m", "M(I)", 12.4, 2.0, 0.9, "chosen"),
        ],
        [("x1", "v1", "", ""), ("x2", "v2", "", ""), ("x3", "v3", "", ""), ("v1", "sum", "× α₁", ""),
         ("v2", "sum", "× αᵢ", "chosen"), ("v3", "sum", "× α_N", ""), ("sum", "cls", "", ""), ("cls", "p", "", ""),
         ("p", "m", "", "")],
    ),
    "second-order effect": Drawing(
        (13, 4.1),
        "A neuron at a token writes its activation times its output vector into the stream. At the class token that goes straight "
        "to the representation: the first-order effect. At all tokens later heads read it, with their attention held, and carry "
        "it to the class token: the second-order effect.",
        [
            ("x", "token i,\nlayer l", 0.9, 2.0, 1.4, "data"), ("n", "neuron n", 2.9, 2.0, 1.4, "chosen"),
            ("s", "stream\nat token i", 5.2, 2.0, 1.5, "data"),
            ("h1", "head, layer l+1", 8.0, 3.3, 2.0, "part"), ("h2", "head, layer L−1", 8.0, 0.7, 2.0, "part"),
            ("cls", "class\ntoken", 10.4, 2.0, 1.0, "data"), ("m", "M(I)", 12.4, 2.0, 0.9, "data"),
        ],
        [("x", "n", "", ""), ("n", "s", "writes", "chosen"), ("s", "h1", "attention held", "chosen"),
        ("s", "h2", "attention held", "chosen"),
         ("h1", "cls", "", "chosen"), ("h2", "cls", "", "chosen"), ("cls", "m", "norm, P", "chosen"),
         ("s", "cls", "first order, if i is the class token", "frozen")],
    ),
    "rosetta matching": Drawing(
        (13, 3.4),
        "A generator draws images from latents. Other models see them. Each unit of each model gives a map for each image; units "
        "of two models whose maps correlate, each among the nearest of the other, are best buddies.",
        [
            ("z", "latents z", 0.9, 1.7, 1.3, "data"), ("g", "generator", 2.9, 1.7, 1.5, "part"),
            ("i", "images", 5.1, 2.6, 1.3, "data"),
            ("d", "model that sees", 7.3, 2.6, 1.9, "part"), ("mg", "maps of its units", 7.3, 0.8, 2.0, "data"),
            ("md", "maps of its units", 9.9, 2.6, 2.0, "data"),
            ("c", "correlation over\nimages and places", 10.2, 0.8, 2.2, "chosen"),
            ("b", "best\nbuddies", 12.3, 0.8, 1.2, "chosen"),
        ],
        [("z", "g", "", ""), ("g", "i", "", ""), ("i", "d", "", ""), ("d", "md", "", ""), ("g", "mg", "", ""), ("md", "c", "", ""),
         ("mg", "c", "", ""), ("c", "b", "", "")],
    ),
    "guided inversion": Drawing(
        (13, 4.2),
        "A target image gives maps in a model that sees. A latent gives maps in the generator. The latent moves along the "
        "gradient until the maps of Rosetta units agree; then the generator draws the image.",
        [
            ("t", "target image", 1.0, 3.5, 1.6, "data"), ("d", "model that sees", 3.7, 3.5, 1.9, "part"),
            ("md", "maps of\nRosetta units", 6.6, 3.5, 1.8, "data"), ("z", "latent z", 1.0, 1.9, 1.6, "chosen"),
            ("g", "generator", 3.7, 1.9, 1.9, "part"), ("mg", "maps of\nRosetta units", 6.6, 1.9, 1.8, "data"),
            ("l", "do they agree?", 9.9, 2.7, 1.9, "chosen"), ("i", "image", 12.0, 1.9, 1.2, "data"),
        ],
        [("t", "d", "", ""), ("d", "md", "", ""), ("md", "l", "", ""), ("z", "g", "", ""), ("g", "mg", "", ""), ("mg", "l", "", ""),
         ("mg", "i", "when it is done", ""), ("l", "z", "gradient", "curve")],
    ),
    "hypothesis loop": Drawing(
        (13, 2.9),
        "Propose what a unit stands for, build pairs of images that differ in that alone, measure the unit's answers, decide "
        "against a bar. What was rejected feeds the next proposals; what was accepted is tested on fresh pairs.",
        [
            ("p", "propose", 1.0, 1.9, 1.5, "part"), ("b", "build pairs that\ndiffer in it alone", 3.8, 1.9, 2.1, "part"),
            ("m", "measure\nthe answers", 6.7, 1.9, 1.7, "part"), ("d", "over the bar?", 9.2, 1.9, 1.7, "chosen"),
            ("f", "yes: again,\non fresh pairs", 12.0, 1.9, 1.8, "data"), ("r", "no: what else?", 5.2, 0.6, 1.9, "data"),
        ],
        [("p", "b", "", ""), ("b", "m", "", ""), ("m", "d", "", ""), ("d", "f", "", ""), ("d", "r", "", "back"),
        ("r", "p", "", "back")],
    ),
}  # fmt: skip


def schematic(name: str) -> Picture:
    """One of DRAWINGS as a picture, with an alternative text. Raises ValueError for another name."""
    if name not in DRAWINGS:
        raise ValueError(f"no schematic {name!r}; choose one of {', '.join(DRAWINGS)}")
    drawing = DRAWINGS[name]
    width, height = drawing.size
    figure = Picture(figsize=(0.72 * width, 0.72 * height), layout="none")
    figure.alt = drawing.says
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axis.set_axis_off()
    boxes = {}
    for key, text, x, y, wide, kind in drawing.boxes:
        corner = "round,pad=0,rounding_size=0.18" if kind == "data" else "square,pad=0"
        box = FancyBboxPatch(
            (x - wide / 2, y - HEIGHT / 2), wide, HEIGHT, corner, facecolor=FILL[kind], edgecolor=EDGE[kind], zorder=2
        )
        axis.add_patch(box)
        axis.text(x, y, text, ha="center", va="center", fontsize=9, linespacing=1.1, zorder=3)
        boxes[key] = box, (x, y)
    for start, end, text, kind in drawing.arrows:
        colour, line, head, bend = LINE[kind]
        (first, a), (last, b) = boxes[start], boxes[end]
        arrow = {"arrowstyle": head, "color": colour, "linestyle": line, "connectionstyle": f"arc3,rad={bend}"}
        axis.annotate("", b, a, arrowprops={**arrow, "patchA": first, "patchB": last, "shrinkA": 0, "shrinkB": 2}, zorder=1)
        if text:
            middle = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + bend * abs(a[0] - b[0]) / 2
            over = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
            axis.text(*middle, text, ha="center", va="center", fontsize=8, color="#555555", bbox=over, zorder=4)
    return figure
