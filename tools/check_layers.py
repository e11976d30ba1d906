#!/usr/bin/env python3
"""Checks that includes go down or sideways, that Linux stays in `platform`, and what each layer may
use. Usage: check_layers.py [ROOT]. Prints `file:line: what is wrong`; the exit status is 1 then.

A file below src/brood/<layer>/ is of that layer; one in src/brood/ says `// Layer: <name>` within
its first five lines. See tools/source_tree.py for the order of the layers.
"""

import re
import sys
from pathlib import Path

from source_tree import LAYERS, RANK, UMBRELLA, Report, library_sources

# Headers of Linux and POSIX, which only `platform` may include.
SYSTEM_HEADER = re.compile(
    r"^(sys|linux|netinet|arpa|net|asm|elfutils|bits)/"
    r"|^(unistd|fcntl|pthread|poll|sched|spawn|dlfcn|link|execinfo|signal|semaphore|mqueue|dirent"
    r"|termios|ucontext|elf|dwarf|netdb|glob|pwd|grp|syslog|cxxabi)\.h$"
)
# <cxxabi.h> is the compiler's, not the system's: whoever moves exceptions needs it.
NOT_SYSTEM = {"cxxabi.h"}
THIRD_PARTY = {  # each is the affair of one layer
    "channel": re.compile(r"^(cereal|boost|openssl)/"),
    "process": re.compile(r"^spdlog/"),
    "platform": re.compile(r"^seccomp\.h$"),
    "cluster": re.compile(r"^nats/"),
}
# Who uses the library need not have these: they are in no header.
SOURCES_ONLY = re.compile(r"^(openssl|spdlog|nats)/|^seccomp\.h$")
PRIVATE = "_private.hpp"  # a header for sources only, which is not installed

SYSTEM_CALL = r"\bsyscall\s*\(|\b(?:FUTEX|SYS)_[A-Za-z_]+\b|\btimespec\b"
# A call into the C library by its full name; of that, moving bytes about is not Linux.
GLOBAL_CALL = (
    r"(?<![\w>:\])])::(?!new\b|delete\b|operator\b|str\w+|mem(?:cpy|move|set|cmp|chr)\b)"
    r"([a-z_][a-z0-9_]*)\s*\("
)
ATOMIC_WAIT = r"\batomic_(?:flag_)?(?:wait|notify)\w*|(?:\.|->)notify_(?:one|all)\s*\("
ATOMIC_VARIABLE = r"\batomic(?:_ref)?\s*<[^;{}()]*>\s*&?\s*(\w+)|\batomic_flag\s*&?\s*(\w+)"
CONDITION_VARIABLE = "// lint: condition_variable"


def check_layer_of(source, report):
    if source.is_top_level:
        if not source.is_header and source.declared_layer is None:
            twin = source.path.with_suffix(".hpp")
            if twin.exists():
                return  # a source at the top is of its header's layer
        if source.in_brood == UMBRELLA:
            if source.declared_layer != "all":
                report.add(source.name, 1, "the umbrella must say `// Layer: all` on top")
        elif source.declared_layer not in RANK:
            report.add(
                source.name,
                1,
                f"says {source.declared_layer or 'nothing'} about its layer; within the first 5 "
                f"lines it must say `// Layer: <name>`, one of {', '.join(RANK)}",
            )
        return
    if source.layer not in RANK:
        report.add(
            source.name,
            1,
            f"stands in src/brood/{source.layer}/, which is not a layer ({', '.join(RANK)})",
        )
    elif source.declared_layer not in (None, source.layer):
        report.add(source.name, 1, f"declares layer {source.declared_layer!r} in {source.layer}/")


def layer_of(source, by_include):
    """The layer; of a source at the top that declares none, its header's."""
    if source.layer is None and not source.is_header:
        twin = by_include.get(source.in_brood[: -len(".cpp")] + ".hpp")
        return twin.layer if twin else None
    return source.layer


def check_includes(sources, report):
    by_include = {source.in_brood: source for source in sources}
    graph = {source.in_brood: [] for source in sources}
    for source in sources:
        layer = layer_of(source, by_include)
        for line, target, angled in source.includes:
            if target.startswith("brood/"):
                target = target[len("brood/") :]
            elif angled:
                continue
            else:
                report.add(source.name, line, f'"{target}": write <brood/...>, from src/')
                continue
            if target not in by_include:
                report.add(source.name, line, f"<brood/{target}> does not exist")
                continue
            graph[source.in_brood].append((line, target))
            if source.in_brood == UMBRELLA:
                continue
            other = layer_of(by_include[target], by_include)
            if other == "all":
                report.add(source.name, line, f"<brood/{target}> is for users of the library only")
            elif layer not in RANK or other not in RANK or layer == other:
                continue
            elif RANK[other] > RANK[layer]:
                report.add(
                    source.name,
                    line,
                    f"{layer} must not include <brood/{target}> of {other}, above it",
                )
            elif RANK[other] == RANK[layer]:
                report.add(
                    source.name,
                    line,
                    f"{layer} must not include <brood/{target}> of its sibling {other}; what both "
                    f"need belongs into {' or '.join(LAYERS[RANK[layer] - 1])}",
                )
    for cycle in cycles(graph):
        line = next(line for line, target in graph[cycle[0]] if target == cycle[1])
        report.add(f"src/brood/{cycle[0]}", line, "include cycle: " + " -> ".join(cycle))


def cycles(graph):
    """One cycle for each edge that closes one in a depth-first walk."""
    done, path, found = set(), [], []

    def visit(node):
        path.append(node)
        for _, target in graph[node]:
            if target in path:
                found.append(path[path.index(target) :] + [target])
            elif target not in done:
                visit(target)
        path.pop()
        done.add(node)

    for node in graph:
        if node not in done:
            visit(node)
    return found


def check_outside_includes(source, layer, report):
    for line, target, _ in source.includes:
        if SYSTEM_HEADER.match(target) and target not in NOT_SYSTEM and layer != "platform":
            report.add(source.name, line, f"<{target}> is for platform alone; wrap it there")
        for owner, headers in THIRD_PARTY.items():
            if headers.match(target) and layer != owner:
                report.add(source.name, line, f"<{target}> is for {owner} alone")
        if not source.is_header or source.name.endswith(PRIVATE):
            continue
        if SOURCES_ONLY.match(target) or target.endswith(PRIVATE):
            report.add(source.name, line, f"<{target}> must not be in a header")


def check_calls(source, layer, report):
    if layer != "platform":
        for line, match in source.matches(SYSTEM_CALL):
            report.add(
                source.name,
                line,
                f"{match.group().strip('( ')}: system calls, futexes and timespecs are for "
                "platform alone",
            )
        for line, match in source.matches(GLOBAL_CALL):
            report.add(
                source.name,
                line,
                f"::{match.group(1)}() calls into the C library; that is for platform alone",
            )
    atomics = {a or b for _, m in source.matches(ATOMIC_VARIABLE) for a, b in [m.groups()]}
    waits = ATOMIC_WAIT
    if atomics:
        waits += rf"|\b(?:{'|'.join(map(re.escape, sorted(atomics)))})\s*\.\s*wait\s*\("
    for line, match in source.matches(waits):
        begin = source.code.rfind("\n", 0, match.start()) + 1
        if re.search(r"\brequires\b", source.code[begin : match.start()]):
            continue  # asks whether a type can do it
        if CONDITION_VARIABLE not in source.lines[line - 1]:
            report.add(
                source.name,
                line,
                f"{match.group().strip('( .')}: std::atomic's wait does not cross processes; use "
                f"the futex of platform (for a std::condition_variable say "
                f"`{CONDITION_VARIABLE}` in the line)",
            )


def check(root):
    report = Report()
    sources = library_sources(root)
    by_include = {source.in_brood: source for source in sources}
    for source in sources:
        layer = layer_of(source, by_include)
        check_layer_of(source, report)
        check_outside_includes(source, layer, report)
        check_calls(source, layer, report)
    check_includes(sources, report)
    return report


if __name__ == "__main__":
    default = Path(__file__).resolve().parent.parent
    sys.exit(check(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else default).finish())
