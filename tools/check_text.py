#!/usr/bin/env python3
"""Checks what may not stand in any text of the project: open ends, paths of somebody's machine,
trailing blanks. Usage: check_text.py [ROOT]. Prints `file:line: what is wrong`; the exit status is
1 then.
"""

import re
import subprocess
import sys
from pathlib import Path

from source_tree import Report

SUFFIXES = {".hpp", ".cpp", ".py", ".sh", ".md", ".cmake", ".txt", ".json", ".in", ".pml", ".yml"}
NAMES = {"dev", "run", ".clang-format", ".clang-tidy", ".gitignore"}
SELF = {"tools/check_text.py", "tools/checks_test.py"}

FORBIDDEN = [
    (re.compile(r"\b(TODO|FIXME|XXX)\b"), "an open end: do it, or open an issue and leave it out"),
    (re.compile(r"(?<![\w.~-])/(work|home|root|Users)/\w"), "a path of somebody's machine"),
    (re.compile(r"/tmp/brood\b"), "a path of somebody's machine"),
    (re.compile(r"[ \t]+$"), "blanks at the end of the line"),
]
TABS = re.compile(r"^ *\t")
TABS_SUFFIXES = {".hpp", ".cpp", ".py", ".cmake"}


def text_files(root):
    """What git knows or would add; without git, everything outside build/."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        paths = [root / name for name in listing.stdout.decode().split("\0") if name]
    else:
        paths = [path for path in root.rglob("*") if "build" not in path.parts]
    for path in sorted(paths):
        if path.is_file() and (path.suffix in SUFFIXES or path.name in NAMES):
            yield path


def check(root):
    report = Report()
    for path in text_files(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8", errors="replace")
        if name in SELF:
            continue
        for number, line in enumerate(text.split("\n"), start=1):
            for pattern, sentence in FORBIDDEN:
                match = pattern.search(line)
                if match:
                    report.add(name, number, f"{match.group().strip()!r}: {sentence}")
            if path.suffix in TABS_SUFFIXES and TABS.search(line):
                report.add(name, number, "a tab: indent with blanks")
        if text and not text.endswith("\n"):
            report.add(name, text.count("\n") + 1, "no end of line at the end of the file")
    return report


if __name__ == "__main__":
    default = Path(__file__).resolve().parent.parent
    sys.exit(check(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else default).finish())
