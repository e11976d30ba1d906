#!/usr/bin/env python3
"""Runs clang-tidy over the sources of the library, several in one translation unit.
Usage: tidy.py [-j JOBS] [--nodes N] BUILD [REGEX...]

BUILD is a configured build folder of clang; REGEX chooses among the paths of the sources.

Most checks walk every header that a source includes, the standard library's too, which takes ten
times as long as the source itself: what is together in a unit shares one walk. A unit is the text of
its sources, for some checks look at the main file only. A using-declaration that only the unit's
other sources use is what check_headers.py finds. A unit that is not in order, perhaps since its sources
do not compile together, is checked source by source, and what that says counts.

The static analyzer, which walks no headers, goes through each source alone: what it knows of the
functions of other sources would change what it says. What most sources include is precompiled for it.
--nodes N: it follows a function to N states at most, where its own limit is 225,000; with 40,000 it takes
a quarter of the time.
"""

import argparse
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
# Those of .clang-tidy.
ANALYZER = "clang-analyzer-core.*,clang-analyzer-cplusplus.*,clang-analyzer-unix.*"
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


def run_tidy(source, options, checks=()):
    """(whether all is well, what clang-tidy says)"""
    result = subprocess.run(
        ["clang-tidy-16", "-quiet", *checks, str(source), "--", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return result.returncode == 0, result.stdout


def precompiled(options, folder, number):
    """The options with what most sources include, compiled."""
    header, made = folder / f"header_{number}.hpp", folder / f"header_{number}.pch"
    standard = Path(__file__).resolve().parent.parent / "cmake" / "precompiled.hpp"
    text = f'#pragma once\n#include "{standard}"\n#include <brood/brood.hpp>\n'
    header.write_text(text, encoding="utf-8")
    command = ["clang++-16", *options, "-w", "-x", "c++-header", str(header), "-o", str(made)]
    subprocess.run(command, check=True)
    return [*options, "-include-pch", str(made)]


def analyze(source, options, nodes):
    if nodes:
        options = [*options, "-Xclang", "-analyzer-config", "-Xclang", f"max-nodes={nodes}"]
    return run_tidy(source, options, [f"--checks=-*,{ANALYZER}"])


def unit_of(sources):
    """The text of all; what one includes, the next ones do not."""
    lines, included = [], set()
    for source in sources:
        own = set()
        for line in source.read_text(encoding="utf-8").splitlines():
            include = re.match(r"#include [<\"].*[>\"]", line)
            if include:
                own.add(include.group())
                if include.group() in included:
                    line = ""
            lines.append(line)
        included |= own
    return "\n".join(lines) + "\n"


def check_group(number, group, folder):
    unit = folder / f"unit_{number}.cpp"
    unit.write_text(unit_of(group.sources), encoding="utf-8")
    well, said = run_tidy(unit, group.options, ["--checks=-clang-analyzer-*"])
    if well:
        return well, ""
    names = " ".join(source.name for source in group.sources)
    first = next((line for line in said.splitlines() if ": error: " in line), "")
    said = f"one by one: {names}\nfor together they are not in order: {first}\n"
    well = True
    for source in group.sources:
        alone, words = run_tidy(source, group.options)
        well = well and alone
        said += words
    return well, said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-j", dest="jobs", type=int, default=os.cpu_count())
    parser.add_argument("--nodes", type=int)
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
    variants = {options: number for number, options in enumerate(dict.fromkeys(entries.values()))}
    for_analyzer = {options: precompiled(options, folder, n) for options, n in variants.items()}
    longest_first = sorted(entries.items(), key=lambda entry: -entry[0].stat().st_size)
    well = True
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = [
            pool.submit(check_group, number, group, folder) for number, group in enumerate(groups)
        ]
        results += [
            pool.submit(analyze, source, for_analyzer[options], arguments.nodes)
            for source, options in longest_first
        ]
        for result in results:
            one_well, said = result.result()
            well = well and one_well
            print(said, end="", flush=True)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
