"""The curves over the number of exemptions, as SVG that is the same for the same numbers."""

import os

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "smtpfence", "svg.fonttype": "path", "font.size": 9})
from matplotlib import pyplot  # noqa: E402 the backend comes first

STYLE = {"smtpfence": ("o", "#1f5fa8"), "nft": ("s", "#b8432f"), "ipset": ("^", "#4d8a3c")}


def curves(table):
    """Title, unit and curves (name, points) of each plot, by file name."""
    def of(what, peer=None):
        return table.series(what, "theirs" if peer else "ours", peer)

    return {
        "toggle": ("One grant, whole command", "ms", {
            "smtpfence": of("grant, command start to answer"),
            "nft": of("grant, command start to answer", "nft add element"),
            "ipset": of("grant, command start to answer", "ipset add"),
            "smtpfence, committed to enforced": of("toggle, committed to enforced, p50")}),
        "load": ("First load of all exemptions", "s", {
            "smtpfence, from its database": of("first apply"), "nft -f": of("first apply", "nft -f"),
            "ipset restore": of("first apply", "ipset restore")}),
        "memory": ("Memory: the first load's peak, and the service", "MB", {
            "smtpfence": of("first apply, peak memory"), "nft -f": of("first apply, peak memory", "nft -f"),
            "ipset restore": of("first apply, peak memory", "ipset restore"),
            "smtpfence's service, resident": of("resident memory of the service")}),
    }


def draw(table, folder, caption):
    os.makedirs(folder, exist_ok=True)
    for name, (title, unit, lines) in curves(table).items():
        if not all(lines.values()):
            continue  # a run of another part
        figure, axes = pyplot.subplots(figsize=(6, 4))
        for label, points in lines.items():
            marker, colour = STYLE[next(word for word in STYLE if label.startswith(word))]
            axes.plot(*zip(*dict(points).items()), marker=marker, color=colour, label=label, markersize=4,
                      linestyle="--" if "," in label and "database" not in label else "-")
        axes.set(xscale="log", yscale="log", xlabel="exemptions", ylabel=unit, title=title)
        axes.grid(True, which="major", linewidth=0.3)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.2), ncol=2, frameon=False)
        figure.text(0.01, 0.005, caption, fontsize=5.5, color="#666666")
        figure.tight_layout(rect=(0, 0.02, 1, 1))
        figure.savefig(f"{folder}/bench_{name}.svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
