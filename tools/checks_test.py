#!/usr/bin/env python3
"""Proves that each check catches what it is for, and lets pass what is right."""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
import check_headers
import check_layers
import check_snippets
import check_text
import expect_output
import merge_benchmarks
import must_not_compile
import reference_filter
from source_tree import code_of

# A small tree in which everything is right.
SOUND = {
    "src/brood/brood.hpp": "// Layer: all\n#pragma once\n#include <brood/pool.hpp>\n",
    "src/brood/pool.hpp": "// Layer: pool\n#pragma once\n#include <brood/memory/segment.hpp>\n",
    "src/brood/pool.cpp": "#include <brood/pool.hpp>\n#include <brood/pool/worker.hpp>\n",
    "src/brood/pool/worker.hpp": "#pragma once\n#include <brood/pool.hpp>\n",
    "src/brood/manager/server.hpp": "#pragma once\n",
    "src/brood/channel/codec.hpp": "#pragma once\n#include <cereal/cereal.hpp>\n",
    "src/brood/memory/segment.hpp": "#pragma once\n#include <brood/platform/futex.hpp>\n",
    "src/brood/platform/futex.hpp": "#pragma once\n#include <atomic>\n",
    "src/brood/platform/futex.cpp": "#include <sys/syscall.h>\n"
    "long f() { return ::syscall(SYS_futex, FUTEX_WAIT); }\n",
}


class TreeTest(unittest.TestCase):
    """Runs a check over the sound tree with some files replaced."""

    def problems(self, check, files):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name, text in {**SOUND, **files}.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return [f"{n}:{line}: {s}" for n, line, s in check(root).problems]

    def assert_sound(self, check, files=None):
        self.assertEqual(self.problems(check, files or {}), [])

    def assert_caught(self, check, name, text, line, words):
        """Exactly one problem, in that line, that says these words."""
        found = self.problems(check, {name: text})
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(f"{name}:{line}: "), found)
        self.assertIn(words, found[0])


class LayersTest(TreeTest):
    def caught(self, name, text, line, words):
        self.assert_caught(check_layers.check, name, text, line, words)

    def test_accepts_a_sound_tree(self):
        self.assert_sound(check_layers.check)

    def test_catches_an_include_upwards(self):
        self.caught(
            "src/brood/platform/fd.hpp",
            "#pragma once\n\n#include <brood/memory/segment.hpp>\n",
            3,
            "platform must not include <brood/memory/segment.hpp> of memory, above it",
        )

    def test_catches_an_include_upwards_through_a_public_header(self):
        self.caught(
            "src/brood/memory/extents.hpp",
            "#pragma once\n#include <brood/pool.hpp>\n",
            2,
            "memory must not include <brood/pool.hpp> of pool",
        )

    def test_catches_an_include_of_a_sibling(self):
        self.caught(
            "src/brood/pool/front.hpp",
            "#pragma once\n#include <brood/manager/server.hpp>\n",
            2,
            "of its sibling manager; what both need belongs into process",
        )

    def test_catches_an_include_cycle(self):
        self.caught(
            "src/brood/pool.hpp",
            "// Layer: pool\n#pragma once\n#include <brood/pool/worker.hpp>\n",
            3,
            "include cycle: pool.hpp -> pool/worker.hpp -> pool.hpp",
        )

    def test_catches_an_include_of_the_umbrella(self):
        self.caught(
            "src/brood/pool/front.cpp",
            "#include <brood/brood.hpp>\n",
            1,
            "users of the library only",
        )

    def test_catches_includes_that_lead_nowhere_or_are_relative(self):
        self.caught("src/brood/pool/a.cpp", "#include <brood/no.hpp>\n", 1, "does not exist")
        self.caught("src/brood/pool/a.cpp", '#include "worker.hpp"\n', 1, "write <brood/...>")

    def test_catches_a_folder_that_is_no_layer(self):
        self.caught("src/brood/detail/x.hpp", "#pragma once\n", 1, "which is not a layer")

    def test_catches_a_public_header_without_its_layer(self):
        self.caught("src/brood/queue.hpp", "#pragma once\n", 1, "says nothing about its layer")
        self.caught("src/brood/queue.hpp", "\n\n\n\n\n// Layer: channel\n", 1, "about its layer")
        self.caught("src/brood/queue.hpp", "// Layer: cellar\n", 1, "says cellar about its layer")

    def test_catches_a_layer_that_contradicts_the_folder(self):
        self.caught("src/brood/pool/x.hpp", "// Layer: memory\n", 1, "'memory' in pool/")

    def test_catches_system_headers_above_platform(self):
        for header in (
            "sys/mman.h linux/futex.h unistd.h fcntl.h pthread.h poll.h sched.h spawn.h dlfcn.h "
            "link.h execinfo.h netinet/in.h elfutils/libdwfl.h"
        ).split():
            self.caught(
                "src/brood/process/x.cpp",
                f"#include <{header}>\n",
                1,
                f"<{header}> is for platform",
            )

    def test_catches_system_calls_above_platform(self):
        for call, words in [
            ("syscall(56)", "syscall: "),
            ("return FUTEX_WAKE", "FUTEX_WAKE: "),
            ("timespec t{}", "timespec: "),
            ("auto n = ::getpid()", "::getpid() calls into the C library"),
            ("::memfd_create(name, 0)", "::memfd_create() calls into the C library"),
        ]:
            self.caught("src/brood/sync/x.cpp", f"\nvoid f() {{ {call}; }}\n", 2, words)

    def test_catches_waits_on_atomics(self):
        for wait in ["w.notify_one()", "w.notify_all()", "std::atomic_wait(&w, 0)", "w.wait(0)"]:
            text = f"#include <atomic>\nstd::atomic<int> w;\nvoid f() {{ {wait}; }}\n"
            self.caught("src/brood/sync/x.cpp", text, 3, "does not cross processes")

    def test_lets_condition_variables_and_other_waits_pass(self):
        self.assert_sound(
            check_layers.check,
            {
                "src/brood/pool/x.cpp": "#include <condition_variable>\n"
                "std::condition_variable c;\n"
                "void f() { c.notify_all(); }  // lint: condition_variable\n"
                "template <class T> concept C = requires(T& x) { x.notify_one(); };\n"
                "template <class P> void g(P& process) { process.wait(1); }\n"
            },
        )

    def test_catches_third_party_headers_outside_channel(self):
        for header in ["cereal/cereal.hpp", "boost/pfr.hpp", "openssl/ssl.h"]:
            self.caught(
                "src/brood/pool/x.cpp", f"#include <{header}>\n", 1, "is for channel alone"
            )

    def test_catches_headers_that_users_need_not_have(self):
        text = "#pragma once\n#include <openssl/ssl.h>\n"
        self.caught("src/brood/channel/x.hpp", text, 2, "must not be in a header")

    def test_is_not_misled_by_comments_and_literals(self):
        self.assert_sound(
            check_layers.check,
            {
                "src/brood/pool/x.cpp": "// #include <unistd.h>, ::fork() and syscall(1)\n"
                "/*\n#include <unistd.h>\n*/\n"
                'const char* a = "::fork()";\nconst char* b = R"(syscall(1) "\n::fork())";\n'
                "int n = 1'000; char c = '\"'; int m = 2'000;\n"
                "namespace a { using std::swap; int x = std::abs(1); }\n"
                "void f() { ::memcpy(a, b, 1); auto n = ::strnlen(a, 1); ::new (p) int(1); }\n"
            },
        )


class HeadersTest(TreeTest):
    def caught(self, name, text, line, words):
        self.assert_caught(check_headers.check, name, text, line, words)

    def test_accepts_a_sound_tree(self):
        self.assert_sound(check_headers.check)

    def test_catches_a_header_without_pragma_once(self):
        self.caught("src/brood/pool/x.hpp", "// #pragma once\n", 1, "needs `#pragma once`")
        self.caught("tests/support/x.hpp", "int x;\n", 1, "needs `#pragma once`")

    def test_catches_short_names_that_nothing_uses(self):
        name = "src/brood/pool/x.cpp"
        for text in ["using detail::Tag;\n", "namespace Tag = std::filesystem;\n"]:
            self.caught(name, text + "detail::Tag tag; // Tag\n", 1, "nothing uses `Tag`")
            self.assert_sound(check_headers.check, {name: text + "Tag tag;\n"})
            self.assert_sound(check_headers.check, {"src/brood/pool/x.hpp": "#pragma once\n" + text})

    def test_catches_a_public_header_that_the_umbrella_lacks(self):
        text = "// Layer: channel\n#pragma once\n"
        found = self.problems(check_headers.check, {"src/brood/queue.hpp": text})
        self.assertEqual(found, ["src/brood/brood.hpp:1: does not include <brood/queue.hpp>"])

    def test_keeps_other_libraries_out_of_the_umbrella(self):
        header = {"src/brood/cluster_pool.hpp": "// Layer: cluster\n#pragma once\n"}
        self.assert_sound(check_headers.check, header)
        umbrella = SOUND["src/brood/brood.hpp"] + "#include <brood/cluster_pool.hpp>\n"
        found = self.problems(check_headers.check, {**header, "src/brood/brood.hpp": umbrella})
        self.assertEqual(len(found), 1, found)
        self.assertIn("of another library", found[0])

    def test_catches_a_missing_umbrella(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "src/brood").mkdir(parents=True)
            problems = check_headers.check(Path(folder)).problems
        self.assertEqual([name for name, _, _ in problems], ["src/brood/brood.hpp"])

    def test_catches_long_files_without_a_reason(self):
        header = "#pragma once\n" + "\n" * 300
        source = "\n" * 601
        self.caught("src/brood/pool/x.hpp", header, 301, "has 301 lines, more than 300")
        self.caught("src/brood/pool/x.cpp", source, 601, "has 601 lines, more than 600")
        self.assert_sound(
            check_headers.check,
            {
                "src/brood/pool/x.hpp": "// Length: one table\n" + header,
                "src/brood/pool/x.cpp": "// Length: one machine\n" + source,
            },
        )

    def test_catches_names_that_say_nothing(self):
        for name in ["src/brood/pool/util.cpp", "tests/pool/test_helpers.cpp", "bench/common.cpp"]:
            self.caught(name, "", 1, "says nothing by its name")
        self.assert_sound(check_headers.check, {"tests/pool/communication.cpp": ""})


class TextTest(TreeTest):
    def test_accepts_a_sound_tree(self):
        self.assert_sound(check_text.check, {"README.md": "See https://example.org/work/x.\n"})

    def test_catches_what_may_not_stand_in_the_project(self):
        for text, line, words in [
            ("a\n// TODO later\n", 2, "open end"),
            ("in /home/me/src\n", 1, "somebody's machine"),
            ("blank \n", 1, "blanks at the end"),
            ("no end", 1, "no end of line"),
        ]:
            self.assert_caught(check_text.check, "docs/x.md", text, line, words)
        self.assert_caught(check_text.check, "src/brood/pool/x.cpp", "\tint x;\n", 1, "a tab")


class CodeTest(unittest.TestCase):
    def test_blanks_comments_and_literals_and_keeps_lines(self):
        text = 'a /* b\nc */ "d // e" \'f\' 1\'000 // g\nh'
        code = code_of(text)
        self.assertEqual(len(code), len(text))
        self.assertEqual(code.count("\n"), 2)
        for gone in "bcdefg":
            self.assertNotIn(gone, code)
        for kept in ["a", "1'000", "h"]:
            self.assertIn(kept, code)


class MustNotCompileTest(unittest.TestCase):
    """The driver with a compiler that is a shell script."""

    def run_driver(self, source_text, status, output):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder).resolve() / "x.cpp"
            source.write_text(source_text, encoding="utf-8")
            compiler = Path(folder) / "compiler"
            compiler.write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n", encoding="utf-8")
            compiler.chmod(0o755)
            commands = Path(folder) / "compile_commands.json"
            entry = {
                "directory": folder,
                "file": str(source),
                "command": f"ccache {compiler} -c x.cpp -o x.o",
            }
            commands.write_text(json.dumps([entry]), encoding="utf-8")
            header = Path(folder) / "all.hpp"
            with mock.patch.object(sys, "argv", ["driver", str(commands), str(source), str(header)]):
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    try:
                        must_not_compile.main()
                    except SystemExit as end:
                        return f"{end.code}\n{said.getvalue()}"
            return "passed"

    def test_passes_when_refused_with_all_expected_words(self):
        source = "// expect: no pointers\n// expect: send a copy\nint x;\n"
        self.assertEqual(self.run_driver(source, 1, "error: no   pointers; send a copy"), "passed")

    def test_fails_when_a_word_is_missing(self):
        source = "// expect: no pointers\n// expect: send a copy\n"
        self.assertIn("does not say: send a copy", self.run_driver(source, 1, "no pointers"))

    def test_fails_when_compiled(self):
        self.assertIn("must be refused", self.run_driver("// expect: x\n", 0, "x"))

    def test_a_control_must_compile(self):
        self.assertEqual(self.run_driver("// compiles\n", 0, ""), "passed")
        self.assertIn("it must compile", self.run_driver("// compiles\n", 1, "error"))

    def test_refuses_a_file_that_expects_nothing(self):
        self.assertIn("must begin with", self.run_driver("int x;\n", 1, "error"))

    def test_drops_the_output_and_the_cache(self):
        with tempfile.TemporaryDirectory() as folder:
            commands, source = Path(folder) / "c.json", Path(folder) / "x.cpp"
            entry = {
                "directory": "/",
                "file": str(source),
                "command": f"/usr/bin/ccache c++ -I a -Werror -o x.o -c {source}",
            }
            commands.write_text(json.dumps([entry]), encoding="utf-8")
            words, _ = must_not_compile.command_for(commands, source)
        self.assertEqual(words, ["c++", "-I", "a", str(source)])


class SnippetsTest(unittest.TestCase):
    def said(self, page, source="int f() {\n  // [a]\n  one();\n    two();\n  // [/a]\n}\n", write=False):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "docs" / "guide").mkdir(parents=True)
            (root / "docs" / "guide" / "p.md").write_text(page, encoding="utf-8")
            (root / "x.cpp").write_text(source, encoding="utf-8")
            with contextlib.redirect_stdout(io.StringIO()) as said:
                check_snippets.check(root, write).finish()
            return said.getvalue(), (root / "docs" / "guide" / "p.md").read_text(encoding="utf-8")

    def test_a_block_is_the_region_set_to_the_left(self):
        right = "<!-- x.cpp: a -->\n```cpp\none();\n  two();\n```\n"
        self.assertEqual(self.said(right)[0], "")
        self.assertIn("is not what stands", self.said(right.replace("two", "three"))[0])
        self.assertEqual(self.said(right.replace("two", "three"), write=True)[1], right)

    def test_a_block_says_where_it_is_from(self):
        self.assertIn("C++ without", self.said("```cpp\nint x;\n```\n")[0])
        self.assertIn("no region [b]", self.said("<!-- x.cpp: b -->\n```cpp\n```\n")[0])
        self.assertIn("there is no y.cpp", self.said("<!-- y.cpp: b -->\n```cpp\n```\n")[0])


class ExpectOutputTest(unittest.TestCase):
    def test_lines_are_regular_expressions_that_cover_the_whole_output(self):
        pattern = expect_output.expected_pattern("(maybe\\n)?pid \\d+\nend\n")
        for output in ["pid 7\nend\n", "maybe\npid 12\nend\n"]:
            self.assertTrue(pattern.fullmatch(output), output)
        for output in ["pid x\nend\n", "pid 7\n", "pid 7\nend\nmore\n", ""]:
            self.assertFalse(pattern.fullmatch(output), output)


class MergeBenchmarksTest(unittest.TestCase):
    def test_keeps_every_benchmark_and_says_of_which_program(self):
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for name in ["a", "b"]:
                files.append(Path(folder) / f"{name}.json")
                part = {
                    "context": {"executable": f"./{name}_bench", "num_cpus": 2},
                    "benchmarks": [{"name": f"BM_{name}", "real_time": 1.0}],
                }
                files[-1].write_text(json.dumps(part), encoding="utf-8")
            whole = merge_benchmarks.merged(files)
        self.assertEqual(whole["context"]["num_cpus"], 2)
        self.assertEqual(
            [(entry["program"], entry["name"]) for entry in whole["benchmarks"]],
            [("a_bench", "BM_a"), ("b_bench", "BM_b")],
        )


class ReferenceFilterTest(unittest.TestCase):
    HEADER = """// Layer: sync
// Locks.
//     an example
#pragma once
namespace brood {
namespace detail {
struct Secret { int n; };
/// Both.
template <class T>
class Base {
 public:
  void lock() { if (true) {} }
};
}  // namespace detail
/// A lock.
class Lock : public detail::Base<int> {};
}  // namespace brood
namespace brood::detail {
int hidden();
}
template <>
inline constexpr bool brood::detail::kIsSharedObject<brood::Lock> = true;
template <>
struct std::hash<brood::Lock> : brood::detail::HandleHash<brood::Lock> {};
"""

    def test_users_see_what_is_theirs(self):
        out = reference_filter.filtered(self.HEADER, "brood/lock.hpp")
        self.assertEqual(out.count("\n"), self.HEADER.count("\n"))
        lines = out.split("\n")
        self.assertEqual(lines[0], "/// @file brood/lock.hpp")
        self.assertEqual(lines[2], "///     an example")
        for kept in ["/// Both.", "template <class T>", "class Base {", "  void lock() { if (true) {} }"]:
            self.assertIn(kept, lines)
        self.assertIn("class Lock : public detail::Base<int> {};", lines)
        for gone in ["Secret", "hidden", "kIsSharedObject", "hash"]:
            self.assertNotIn(gone, out)


if __name__ == "__main__":
    unittest.main()
