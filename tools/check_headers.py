#!/usr/bin/env python3
"""Checks the form of files: `#pragma once`, the completeness of the umbrella, lengths, names, and
short names that nothing uses.
Usage: check_headers.py [ROOT]. Prints `file:line: what is wrong`; the exit status is 1 then.

Whether a header compiles by itself is the compiler's to say: the CMake target `verify_headers`.
"""

import re
import sys
from pathlib import Path

from source_tree import UMBRELLA, Report, Source, library_sources

MAX_LINES = {".hpp": 300, ".cpp": 600}
FOLDERS = ["src", "tests", "bench", "simulations", "examples", "fuzz", "tools", "cmake"]
VAGUE_NAME = re.compile(r"(^|[_-])(utils?|common|misc|helpers?)([_-]|$)")


def check_pragma_once(source, report):
    if source.is_header and not re.search(r"^#pragma once$", source.code, re.MULTILINE):
        report.add(source.name, 1, "a header needs `#pragma once`")


def check_length(source, report):
    limit = MAX_LINES[source.path.suffix]
    excused = any(re.match(r"//\s*Length:\s*\S", line) for line in source.lines[:10])
    if len(source.lines) > limit and not excused:
        report.add(
            source.name,
            limit + 1,
            f"has {len(source.lines)} lines, more than {limit}: split it, or say in the first 10 "
            "lines `// Length: <why one file>`",
        )


# Such as std::string, and such as `namespace fs = std::filesystem`.
SHORT_NAMES = [re.compile(r"\busing\s+[\w:]*::(\w+)\s*;"), re.compile(r"\bnamespace\s+(\w+)\s*=")]


def check_short_names(source, report):
    """Those of a source that nothing uses; others may want those of a header."""
    if source.is_header:
        return
    for pattern in SHORT_NAMES:
        for line, match in source.matches(pattern):
            name = match.group(1)
            others = source.code[: match.start()] + source.code[match.end() :]
            if not re.search(rf"(?<!::)\b{name}\b", others):
                report.add(source.name, line, f"nothing uses `{name}`")


# Layers that are libraries of their own: who links brood alone does not have them.
OWN_LIBRARIES = {"cluster"}


def check_umbrella(root, sources, report):
    public = [source for source in sources if source.is_header and source.is_top_level]
    umbrella = next((source for source in public if source.in_brood == UMBRELLA), None)
    if umbrella is None:
        report.add(f"src/brood/{UMBRELLA}", 1, "is missing: it includes every public header")
        return
    included = {target for _, target, _ in umbrella.includes}
    for source in public:
        if source.declared_layer in OWN_LIBRARIES:
            if f"brood/{source.in_brood}" in included:
                report.add(umbrella.name, 1, f"includes <brood/{source.in_brood}>, of another library")
        elif source is not umbrella and f"brood/{source.in_brood}" not in included:
            report.add(umbrella.name, 1, f"does not include <brood/{source.in_brood}>")


def check_names(root, report):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if "__pycache__" not in path.parts and VAGUE_NAME.search(path.stem):
                report.add(
                    path.relative_to(root).as_posix(), 1, "says nothing by its name: name the idea"
                )


def check(root):
    report = Report()
    sources = library_sources(root)
    for source in sources:
        check_length(source, report)
        check_short_names(source, report)
    others = [
        Source(root, path)
        for folder in FOLDERS
        if folder != "src"
        for path in sorted((root / folder).rglob("*.hpp"))
    ]
    for source in sources + others:
        check_pragma_once(source, report)
    check_umbrella(root, sources, report)
    check_names(root, report)
    return report


if __name__ == "__main__":
    default = Path(__file__).resolve().parent.parent
    sys.exit(check(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else default).finish())
