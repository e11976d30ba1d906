#!/usr/bin/env python3
"""Draws what simulate_cluster wrote. Usage: plot_cluster.py JSON SVG."""

import json
import sys

import matplotlib

matplotlib.use("svg")
# The same numbers make the same file.
matplotlib.rcParams["svg.hashsalt"] = "brood"
matplotlib.rcParams["font.size"] = 8
matplotlib.rcParams["svg.fonttype"] = "none"  # letters, not their outlines

from matplotlib import pyplot  # noqa: E402  after the choice of what it draws with

POINTS = 250  # on a curve at most: more are not seen


def thinned(values):
    """Means of as many neighbours as it takes, and the seconds at which they stand."""
    step = max(1, -(-len(values) // POINTS))
    groups = [values[at : at + step] for at in range(0, len(values), step)]
    return [at * step for at in range(len(groups))], [sum(g) / len(g) for g in groups]


def draw(run, path):
    figure, ((server, tasks), (flight, spent)) = pyplot.subplots(2, 2, figsize=(9, 5.5))
    workers = run["agents"] * run["workers"]
    figure.suptitle(
        f"{run['tasks']:,} tasks, {run['agents']:,} agents with {run['workers']} workers, failures: "
        f"{run['took']:.0f} s, ideally {run['ideal']:.0f} s"
    )
    at, values = thinned([n / 1000 for n in run["messages"]])
    server.plot(at, values, label="thousand messages/s")
    at, values = thinned([n / 1e6 for n in run["bytes"]])
    server.plot(at, values, label="MB/s")
    at, values = thinned([100 * share for share in run["server_busy"]])
    server.plot(at, values, label="busy, %")
    at, values = thinned(run["infos"])
    server.plot(at, values, label="consumer requests/s")
    server.set_title("server")
    server.legend(loc="upper right")

    done, total = [], 0
    for count in run["results"]:
        total += count
        done.append(total / 1e6)
    at, values = thinned(done)
    tasks.plot(at, values, label="done, millions")
    ideal = run["ideal"]
    tasks.plot([0, ideal], [0, run["tasks"] / 1e6], ":", label="ideally")
    tasks.set_title("tasks")
    tasks.legend(loc="lower right")

    at, values = thinned([n / 1000 for n in run["results"]])
    flight.plot(at, values, label="results, thousands/s")
    at, values = thinned([n / 1000 for n in run["in_flight"]])
    flight.plot(at, values, label="tasks away, thousands")
    at, values = thinned([100 * n / run["agents"] for n in run["present"]])
    flight.plot(at, values, label="agents there, %")
    flight.set_title("work")
    flight.legend(loc="lower right")

    lost = {what: part for what, part in run["spent"].items() if what != "useful"}
    spent.barh(list(lost), list(lost.values()))
    spent.invert_yaxis()
    for row, part in enumerate(lost.values()):
        spent.text(part, row, f" {part:.2f}", va="center")
    spent.set_title(f"time of the {workers:,} workers that was lost, %")
    spent.margins(x=0.15)
    for axes in (server, tasks, flight):
        axes.set_xlabel("virtual time, s")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        draw(json.load(file), sys.argv[2])
