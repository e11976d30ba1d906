#!/usr/bin/env python3
"""Proves that a file is refused by the compiler, with the words that it promises.
Usage: must_not_compile.py COMPILE_COMMANDS.json FILE.cpp HEADER
       must_not_compile.py --precompile COMPILE_COMMANDS.json FILE.cpp HEADER

HEADER is included before FILE.cpp. With --precompile it is compiled once for all of them, with the
command for FILE.cpp; without that it is read each time.

The first lines of FILE.cpp say what is expected:

    // expect: <text>   compilation fails and the compiler's messages have <text>; may be repeated
    // compiles         compilation succeeds: a control; it shows that the others mean something

The command is the one that the build itself would use for the file, with -fsyntax-only.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path


def expectations(text):
    """(expected texts, whether the file must compile), from the leading comment lines."""
    expected, compiles = [], False
    for line in text.splitlines():
        if not line.startswith("//"):
            break
        match = re.match(r"//\s*expect:\s*(.*\S)", line)
        if match:
            expected.append(match.group(1))
        compiles = compiles or line.strip() == "// compiles"
    if bool(expected) == compiles:
        sys.exit("the file must begin with `// expect: <text>` lines or with `// compiles`")
    return expected, compiles


def command_for(compile_commands, source):
    """The build's command for `source`, without its output and without a compiler cache."""
    entries = [e for e in json.loads(compile_commands.read_text()) if Path(e["file"]) == source]
    if not entries:
        sys.exit(f"{source} is not in {compile_commands}: configure again")
    words = shlex.split(entries[0]["command"])
    if "ccache" in Path(words[0]).name:
        words = words[1:]
    command, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in ("-o", "-MF", "-MT", "-MQ"):
            skip = True
        elif word not in ("-c", "-MD", "-MMD", "-Werror"):  # a warning is no refusal
            command.append(word)
    return command, entries[0]["directory"]


def is_clang(compiler):
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, errors="replace", check=False
    )
    return "clang" in version.stdout


def precompile(compile_commands, source, header):
    command, directory = command_for(compile_commands, source)
    command.remove(str(source))
    suffix = ".pch" if is_clang(command[0]) else ".gch"
    command += ["-x", "c++-header", str(header), "-o", str(header) + suffix]
    sys.exit(subprocess.run(command, cwd=directory, check=False).returncode)


def squeezed(text):
    return " ".join(text.split())


def main():
    arguments = sys.argv[1:]
    once = arguments[:1] == ["--precompile"]
    if len(arguments[once:]) != 3:
        sys.exit(__doc__)
    compile_commands, source, header = (Path(a).resolve() for a in arguments[once:])
    if once:
        precompile(compile_commands, source, header)
    expected, compiles = expectations(source.read_text(encoding="utf-8"))
    command, directory = command_for(compile_commands, source)
    command += ["-include", str(header), "-fsyntax-only", "-fdiagnostics-color=never"]
    # The message without the line of source, which might have the expected words too.
    clang = is_clang(command[0])
    command.append("-fno-caret-diagnostics" if clang else "-fno-diagnostics-show-caret")
    result = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    wrong = []
    if result.returncode < 0:
        wrong.append(f"the compiler was killed by signal {-result.returncode}")
    elif compiles and result.returncode != 0:
        wrong.append("it must compile, but was refused")
    elif not compiles and result.returncode == 0:
        wrong.append("it was compiled, but must be refused")
    output = squeezed(result.stdout)
    wrong += [f"the compiler does not say: {e}" for e in expected if squeezed(e) not in output]
    if wrong:
        print(f"{source}: " + "; ".join(wrong))
        print("command:", shlex.join(command))
        print(result.stdout)
        sys.exit(1)


if __name__ == "__main__":
    main()
