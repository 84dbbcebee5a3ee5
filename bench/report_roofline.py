"""The roofline of a benchmark run as a picture: what bounds each operation, and how near it is."""

from fnmatch import fnmatchcase

from report_figures import fastest, problems

HEADLINE = (
    ("push", "n=1e6-m=16-float32"),
    ("combine", "n=1e6-m=16-float32"),
    ("gram", "n=1e6-m=16-float32"),
    ("gram", "n=1e6-m=64-float32"),
    ("fit", "n=1e6-m=64-float32"),
    ("grouped", "*"),
    ("streaming-svd", "n=1e6*float32"),
    ("streaming-dmd", "n=1e6*float32"),
)
LINE, WIDEST = 14, 100  # of a label, in points
INK, ROOF, POINT = "#333333", "#8a8a8a", "#1f5fa8"


def rates(timing):
    """Return (flops per byte, GFLOP/s) of a measurement; None if it does not say them."""
    flops, moved = timing.info.get("flops"), timing.info.get("bytes")
    if not flops or not moved:
        return None
    return flops / moved, flops / (timing.seconds * timing.info.get("per", 1)) / 1e9


def points(timings):
    """Return {label: (flops per byte, GFLOP/s)} of the headline operations, at their fastest."""
    found = {}
    for (operation, problem), rows in problems(timings).items():
        best = fastest(rows)
        wanted = any(fnmatchcase(operation, o) and fnmatchcase(problem, p) for o, p in HEADLINE)
        if wanted and best is not None and rates(best):
            several = operation == "gram"  # two sizes of it
            found[f"{operation} m={best.info['m']}" if several else operation] = rates(best)
    return found


def roofs(timings):
    """Return the GB/s of memory and the GFLOP/s of float64 products; None where unmeasured."""
    speeds = [_rate(t, "bytes") for t in timings if t.operation == "bandwidth"]
    products = [t for t in timings if t.operation == "gemm" and t.info.get("dtype") == "float64"]
    peaks = [_rate(t, "flops") for t in products]
    return max(filter(None, speeds), default=None), max(filter(None, peaks), default=None)


def _rate(timing, key):
    amount = timing.info.get(key)
    return amount / (timing.seconds * timing.info.get("per", 1)) / 1e9 if amount else None


def draw(timings, path, title):
    """Write the picture; return False, without one, where the run has no roof or no point."""
    found, (speed, peak) = points(timings), roofs(timings)
    if not found or speed is None or peak is None:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    ridge = peak / speed
    left = min(0.5 * min(x for x, _ in found.values()), 0.1 * ridge)
    right = max(4 * max(x for x, _ in found.values()), 10 * ridge)
    axes.loglog([left, ridge, right], [left * speed, peak, peak], color=ROOF, linewidth=2)
    axes.set_xlim(left, right)
    axes.set_ylim(0.5 * min(y for _, y in found.values()), 2.5 * peak)
    axes.text(0.98, 0.04, f"roof: memory, {speed:.0f} GB/s, and\nNumPy's float64 matrix product, "
              f"{peak:.0f} GFLOP/s", transform=axes.transAxes, ha="right", color=INK)  # fmt: skip
    axes.scatter(*zip(*found.values(), strict=True), s=36, color=POINT, zorder=3)
    _furnish(axes, title)
    figure.canvas.draw()  # fixes where points lie on paper
    for label, place in _heights(axes, found).items():
        axes.annotate(
            label,
            found[label],
            xytext=(22, place),
            textcoords="offset points",
            color=INK,
            va="center",
            bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5},
            arrowprops={"arrowstyle": "-", "color": ROOF, "linewidth": 0.7},
            zorder=2.5,
        )
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)
    return True


def _furnish(axes, title):
    axes.set_xlabel("flops per byte that must move")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(title, loc="left", fontsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _heights(axes, found):
    """How far above its point, in points of paper, each label goes so that none hides another."""
    at = {k: axes.transData.transform(v) * 72 / axes.figure.dpi for k, v in found.items()}
    order = sorted(found, key=lambda label: (at[label][1], label))
    height = {label: at[label][1] for label in order}
    for _ in range(100):
        for i, lower in enumerate(order):
            for upper in order[i + 1 :]:
                lacking = LINE - (height[upper] - height[lower])
                if lacking > 0 and abs(at[upper][0] - at[lower][0]) < WIDEST:
                    height[lower] -= lacking / 2
                    height[upper] += lacking / 2
    return {label: height[label] - at[label][1] for label in order}
