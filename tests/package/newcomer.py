#!/usr/bin/env python3
"""Goes the way that the guide's first page shows: an example copied out of the tree, the CMakeLists.txt
that stands there, its commands; then the example is changed, and built and run again.
Usage: newcomer.py SOURCE_DIR PREFIX FOLDER [CMAKE_OPTION...]

Brood is the one installed in PREFIX, as the page's comment says it may be."""

import re
import shutil
import subprocess
import sys
from pathlib import Path


def block(page, language, words):
    """The page's block of that language with these words."""
    for found in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL):
        if words in found:
            return found
    sys.exit(f"the guide has no block of {language} with '{words}'")


def run(command, folder):
    result = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if result.returncode != 0:
        sys.exit(f"{command}\nended with {result.returncode}:\n{result.stdout}")
    return result.stdout


def expect(lines, output):
    said = output.splitlines()[-len(lines) :]
    for line, pattern in zip(said, lines, strict=True):
        if not re.fullmatch(pattern, line):
            sys.exit(f"'{line}' is not what was expected, '{pattern}':\n{output}")


def main():
    source, prefix, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    options = " ".join(f"'{option}'" for option in sys.argv[4:])
    page = (source / "docs/guide/index.md").read_text(encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    listfile = block(page, "cmake", "add_subdirectory")
    line = next(line for line in listfile.split("\n") if line.startswith("add_subdirectory"))
    alternative = re.search(r"# or (find_package\([^)]*\))", line)
    if not alternative:
        sys.exit(f"the guide's CMakeLists.txt does not show find_package any more: {line}")
    (folder / "CMakeLists.txt").write_text(listfile.replace(line, alternative[1]), encoding="utf-8")
    shutil.copy(source / "examples/pool.cpp", folder)
    expected = (source / "examples/pool.expected").read_text(encoding="utf-8").splitlines()

    command = block(page, "sh", "cmake --build").strip()
    configured = command.replace(
        "cmake -S . -B build", f"cmake -S . -B build '-DCMAKE_PREFIX_PATH={prefix}' {options}"
    )
    expect(expected, run(configured, folder))

    program = folder / "pool.cpp"
    changed = program.read_text(encoding="utf-8").replace("return n / 2;", "return n / 2 + 1;")
    program.write_text(changed, encoding="utf-8")
    expect(["2 3 4", *(".*" for _ in expected[1:])], run(command, folder))


if __name__ == "__main__":
    main()
