#!/usr/bin/env python3
"""Runs a program and compares its standard output with what is expected.
Usage: expect_output.py EXPECTED PROGRAM [ARGUMENT...]

The lines of EXPECTED are regular expressions, and together one: an optional line is written
`(perhaps this\\n)?` before the next, in its line. Without such a file only the exit status counts.
"""

import re
import subprocess
import sys
from pathlib import Path


def expected_pattern(text):
    return re.compile(text.rstrip("\n") + "\n?")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    expected, command = Path(sys.argv[1]), sys.argv[2:]
    result = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, errors="replace", check=False
    )
    wrong = []
    if result.returncode != 0:
        wrong.append(f"it ended with status {result.returncode}")
    if expected.exists():
        text = expected.read_text(encoding="utf-8")
        if not expected_pattern(text).fullmatch(result.stdout):
            wrong.append(f"its output is not what {expected} says:\n{text}")
    if wrong:
        print(f"{' '.join(command)}: " + "; ".join(wrong))
        print("it printed:")
        print(result.stdout)
        sys.exit(1)


if __name__ == "__main__":
    main()
