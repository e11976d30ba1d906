#!/usr/bin/env python3
"""Merges Google Benchmark's JSON files into one. Usage: merge_benchmarks.py OUTPUT INPUT...

The context is the first file's, with the commit; each benchmark says of which program it is.
"""

import json
import subprocess
import sys
from pathlib import Path


def commit_of(folder):
    result = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or "unknown"


def merged(files):
    whole = {"context": {}, "benchmarks": []}
    for file in files:
        part = json.loads(file.read_text(encoding="utf-8"))
        program = Path(part["context"].pop("executable", file.stem)).name
        whole["context"] = whole["context"] or part["context"]
        whole["benchmarks"] += [{"program": program, **entry} for entry in part["benchmarks"]]
    whole["context"]["commit"] = commit_of(Path(__file__).parent)
    return whole


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    result = merged([Path(name) for name in sys.argv[2:]])
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
