#!/usr/bin/env python3
"""Checks that C++ in the guide is what the tests compile and run.
Usage: check_snippets.py [--write] [ROOT]. Prints `file:line: what is wrong`; the exit status is 1
then. With --write the guide is put right.

Each block of C++ in docs/guide/*.md comes behind a line that says from where:

    <!-- examples/pool.cpp: map -->

In that file it stands between the lines `// [map]` and `// [/map]`, and is set to the left.
"""

import re
import sys
import textwrap
from pathlib import Path

from source_tree import Report

MARK = re.compile(r"^<!-- (\S+): (\S+) -->$")
SIDE_MARK = re.compile(r"^\s*// \[/?[a-z_]+\]$")


def region(path, name):
    """The lines between the marks, without other marks; None if there are none."""
    lines = path.read_text(encoding="utf-8").split("\n")
    stripped = [line.strip() for line in lines]
    if f"// [{name}]" not in stripped or f"// [/{name}]" not in stripped:
        return None
    begin, end = stripped.index(f"// [{name}]"), stripped.index(f"// [/{name}]")
    kept = [line for line in lines[begin + 1 : end] if not SIDE_MARK.match(line)]
    return textwrap.dedent("\n".join(kept)).strip("\n").split("\n")


def checked(root, page, lines, report):
    """The page as it should be."""
    out, i = [], 0
    name = page.relative_to(root).as_posix()
    while i < len(lines):
        out.append(lines[i])
        if lines[i] != "```cpp":
            i += 1
            continue
        mark = MARK.match(lines[i - 1]) if i else None
        end = lines.index("```", i)
        block = lines[i + 1 : end]
        wanted = block
        if not mark:
            report.add(name, i + 1, "C++ without a line `<!-- file: region -->` above it")
        elif not (root / mark[1]).is_file():
            report.add(name, i, f"there is no {mark[1]}")
        else:
            wanted = region(root / mark[1], mark[2])
            if wanted is None:
                report.add(name, i, f"{mark[1]} has no region [{mark[2]}]")
                wanted = block
            elif wanted != block:
                report.add(name, i + 1, f"is not what stands in {mark[1]} at [{mark[2]}]")
        out += wanted + ["```"]
        i = end + 1
    return out


def check(root, write=False):
    report = Report()
    pages = sorted((root / "docs" / "guide").glob("*.md"))
    if not pages:
        report.add("docs/guide", 1, "there is no guide")
    for page in pages:
        lines = page.read_text(encoding="utf-8").split("\n")
        right = checked(root, page, lines, report)
        if write and right != lines:
            page.write_text("\n".join(right), encoding="utf-8")
    return report


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    top = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    sys.exit(check(top.resolve(), "--write" in sys.argv).finish())
