#!/usr/bin/env python3
"""Runs clang-tidy over the sources of the library, several in one translation unit.
Usage: tidy.py [-j JOBS] BUILD [REGEX...]

BUILD is a configured build folder of clang; REGEX chooses among the paths of the sources.

clang-tidy walks every header that a source includes, the standard library's too, and that takes ten
times as long as the source itself: what is together in a unit shares one walk. A unit is the text of
its sources, for there are checks, and the static analyzer, that look at the main file only. A
using-declaration that only the unit's other sources use is what check_headers.py finds.

Sources whose own names clash go into different units. Those that do not compile together all the same
are checked one by one, and that is said.
"""

import argparse
import bisect
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

LIBRARY = "/src/brood/"
LINES_TOGETHER = 2500
NOT_COMPILED = "[clang-diagnostic-error"
# What is of no use here, with its argument; warnings (-W...) are what compiling says.
DROPPED = {"-o": 2, "-c": 2, "-include": 2}


@dataclass
class Group:
    """Sources with the same options that go into one unit."""

    options: tuple
    sources: list = field(default_factory=list)
    names: set = field(default_factory=set)
    lines: int = 0


def options_of(command):
    """The options of a compile command, without the compiler, its launcher and the file."""
    words = shlex.split(command)
    while words and not words[0].startswith("-"):
        words.pop(0)
    kept = []
    while words:
        taken = 1 if words[0].startswith("-W") else DROPPED.get(words[0], 0)
        if not taken:
            kept.append(words[0])
        del words[: max(taken, 1)]
    return tuple(kept)


def own_names(text):
    """What a source declares for itself, as far as the form of the text tells: in unnamed namespaces,
    and constants anywhere."""
    names = set()
    inside = False
    for line in text.splitlines():
        if line.startswith(("namespace {", "}  // namespace")):
            inside = line == "namespace {"
        elif line.startswith(("using namespace", "static_assert", "namespace")):
            continue
        elif inside or line.startswith(("const", "static ", "enum ")):
            match = re.match(r"(?:enum class|class|struct|enum|union|using)\s+(\w+)", line)
            match = match or re.match(r"\w.*?\b(\w+)\s*(?:[({=;\[]|$)", line)
            if match:
                names.add(match.group(1))
    return names


def grouped(entries):
    """Groups of the (source, options), in their order, each where it fits first."""
    groups = []
    for source, options in entries:
        text = source.read_text(encoding="utf-8")
        names, lines = own_names(text), text.count("\n")
        for group in groups:
            fits = group.lines + lines <= LINES_TOGETHER and not group.names & names
            if group.options == options and fits:
                break
        else:
            group = Group(options)
            groups.append(group)
        group.sources.append(source)
        group.names |= names
        group.lines += lines
    return groups


def run_tidy(unit, options):
    """(whether all is well, what clang-tidy says)"""
    result = subprocess.run(
        ["clang-tidy-16", "-quiet", str(unit), "--", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return result.returncode == 0, result.stdout


def unit_of(sources):
    """(text of all, number of the first line of each); what is included already is so once."""
    lines, starts, included = [], [], set()
    for source in sources:
        starts.append(len(lines) + 1)
        own = set()
        for line in source.read_text(encoding="utf-8").splitlines():
            include = re.match(r"#include [<\"].*[>\"]", line)
            if include:
                own.add(include.group())
                if include.group() in included:
                    line = ""
            lines.append(line)
        included |= own
    return "\n".join(lines) + "\n", starts


def in_sources(said, unit, sources, starts):
    """What clang-tidy says, with the places in the sources instead of those in the unit."""

    def place(match):
        line = int(match.group(1))
        which = bisect.bisect(starts, line) - 1
        return f"{sources[which]}:{line - starts[which] + 1}:"

    return re.sub(re.escape(str(unit)) + r":(\d+):", place, said)


def check_group(number, group, folder):
    unit = folder / f"unit_{number}.cpp"
    text, starts = unit_of(group.sources)
    unit.write_text(text, encoding="utf-8")
    well, said = run_tidy(unit, group.options)
    said = in_sources(said, unit, group.sources, starts)
    if NOT_COMPILED not in said or len(group.sources) == 1:
        return well, said
    names = " ".join(source.name for source in group.sources)
    said = f"one by one, for they do not compile together: {names}\n{said}"
    well = True
    for source in group.sources:
        alone, words = run_tidy(source, group.options)
        well = well and alone
        said += words
    return well, said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-j", dest="jobs", type=int, default=os.cpu_count())
    parser.add_argument("build", type=Path)
    parser.add_argument("regex", nargs="*")
    arguments = parser.parse_args()

    build = arguments.build.resolve()
    entries = {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        path = entry["file"]
        chosen = not arguments.regex or any(re.search(regex, path) for regex in arguments.regex)
        if LIBRARY in path and path.endswith(".cpp") and chosen:
            entries[Path(path)] = options_of(entry["command"])
    if not entries:
        sys.exit("tidy.py: no such source")
    folder = build / "tidy"  # below the tree, whose .clang-tidy counts
    folder.mkdir(exist_ok=True)
    groups = sorted(grouped(sorted(entries.items())), key=lambda group: -group.lines)
    print(f"{len(entries)} sources in {len(groups)} units", flush=True)
    well = True
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for one_well, said in pool.map(check_group, range(len(groups)), groups, [folder] * len(groups)):
            well = well and one_well
            print(said, end="", flush=True)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
