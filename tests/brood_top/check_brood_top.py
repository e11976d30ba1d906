#!/usr/bin/env python3
"""Checks what brood-top says of a family. Usage: check_brood_top.py BROOD_TOP FAMILY METHOD"""

import json
import os
import random
import signal
import subprocess
import sys
import time

PATIENCE = 30  # seconds for what must happen


def top(*arguments):
    return subprocess.run(
        [sys.argv[1], *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def look(pid):
    result = top("--json", pid)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def eventually(pid, what, holds):
    end = time.monotonic() + PATIENCE
    while True:
        view = look(pid)
        try:
            if holds(view):
                return view
        except (KeyError, StopIteration, TypeError):
            pass
        assert time.monotonic() < end, f"never: {what}\n{json.dumps(view, indent=1)}"
        time.sleep(0.02)


def process(view, name):
    return next(p for p in view["processes"] if p["name"] == name)


def object_of(view, name):
    """The object that the process waits for."""
    index = process(view, name)["waits_for_object"]
    return next(o for o in view["objects"] if o["index"] == index)


def pool(view, name):
    return next(p for p in view["pools"] if p["name"] == name)


def everybody_is_at_it(view):
    lock = object_of(view, "waiter-0")
    return (
        len(lock["waiters"]) == 3
        and object_of(view, "waiter-1") == lock
        and object_of(view, "consumer")["kind"] == "queue"
        and object_of(view, "left")["holder"]["name"] == "right"
        and object_of(view, "right")["holder"]["name"] == "left"
        and any(p["doing"] == "idle" for p in view["processes"] if p["role"] == "worker")
        and any(p["doing"].startswith("waits for event") for p in view["processes"])
        and pool(view, "mapper")["workers"][0]["item"] == 1
        and pool(view, "mapper")["workers"][0]["busy_percent"] == 100
        and pool(view, "mapper")["items_per_second"] == 0  # the first item is long done
        and any(w["doing"] == "computes" for w in pool(view, "brood-worker")["workers"])
    )


def check_view(view, pid, method):
    assert view["root_pid"] == pid
    root = process(view, "main")
    assert root["pid"] == pid and root["role"] == "root" and root["start_method"] is None
    assert root["threads"] >= 2 and root["resident_bytes"] > 1 << 20, root
    for name in ["holder", "waiter-0", "waiter-1", "consumer", "left", "right"]:
        child = process(view, name)
        assert child["start_method"] == method, child
        assert child["state"] == "live" and child["parent_pid"] == pid, child
    assert process(view, "holder")["waits_for_object"] is None

    lock = object_of(view, "waiter-0")
    assert lock["kind"] == "lock" and lock["holder"]["name"] == "holder", lock
    assert not lock["owner_died"] and lock["index"] == view["most_waited_for"], lock
    waiters = sorted((w["name"], w["thread"]) for w in lock["waiters"])
    assert waiters == [("main", True), ("waiter-0", False), ("waiter-1", False)], waiters

    depths = sorted(o["depth"] for o in view["objects"] if o["kind"] == "queue" and not o["log"])
    assert depths == [0, 5], depths
    full = next(o for o in view["objects"] if o.get("depth") == 5)
    assert full["maxsize"] == 10 and not full["closed"], full
    semaphore = next(o for o in view["objects"] if o["kind"] == "semaphore")
    assert semaphore["permits"] == 2, semaphore

    circles = [sorted(who["name"] for who in circle) for circle in view["deadlocks"]]
    assert circles == [["left", "right"]], circles
    memory = view["memory"]
    assert 0 < memory["used_bytes"] < memory["total_bytes"], memory
    assert memory["used_bytes"] + memory["free_bytes"] == memory["total_bytes"], memory
    assert view["log"] == {"level": "off", "lost": 0}
    check_pools(view, pid)


def check_pools(view, pid):
    mapper = pool(view, "mapper")
    assert mapper["owner"]["pid"] == pid and len(mapper["workers"]) == 1, mapper
    assert mapper["jobs"] == [{"kind": "map", "items": 3, "left": 2, "priority": 0}], mapper
    worker = mapper["workers"][0]
    assert worker["pid"] == process(view, "mapper-1")["pid"], mapper
    # What came before was short, so nobody looked at the clock: it was seen to be at it.
    assert worker["doing"] == "computes" and worker["seconds"] > 0.05, mapper
    assert mapper["items_per_second"] == 0, mapper
    assert mapper["items"] == worker["items"] == 1, mapper
    tasks = pool(view, "brood-worker")
    assert sorted(w["doing"] for w in tasks["workers"]) == ["computes", "idle"], tasks
    assert [job["kind"] for job in tasks["jobs"]] == ["tasks"], tasks


def check_live(pid):
    """The second picture has what one alone cannot tell."""
    with subprocess.Popen(
        [sys.argv[1], "--interval", "0.05", str(pid)], stdout=subprocess.PIPE, text=True
    ) as live:
        try:
            seen = ""
            while "pool mapper" not in seen.partition("a second")[2]:
                line = live.stdout.readline()
                assert line, seen
                seen += line
        finally:
            live.kill()
    assert "pool mapper of main" in seen and "0 a second; a map, 2 of 3 left" in seen, seen
    assert "item 1 for " in seen, seen


def check_family(pid, method):
    view = eventually(pid, "everybody is at what they shall be at", everybody_is_at_it)
    check_view(view, pid, method)
    # From any member it is the same family; and a wait goes on over the sleeps that it consists of.
    waiter = process(view, "waiter-1")["pid"]
    eventually(waiter, "a long wait", lambda v: process(v, "waiter-1")["doing_seconds"] > 1.1)
    text = top("--once", waiter)
    assert text.returncode == 0, text.stderr
    for words in ["DEADLOCK:", "3 waiting for lock #", "holder (", "5 in it of 10", "consumer"]:
        assert words in text.stdout, text.stdout

    check_live(pid)

    os.kill(process(view, "holder")["pid"], signal.SIGKILL)
    index = object_of(view, "waiter-0")["index"]

    def taken_over(now):
        lock = next(o for o in now["objects"] if o["index"] == index)
        return lock["owner_died"] and lock["holder"]["name"] in ["waiter-0", "waiter-1", "main"]

    eventually(pid, "another has the lock, and its owner died", taken_over)


def copy_of_memory(pid):
    """The family's memory as it is now, in a file of the same name, so that this process has it."""
    folder = f"/proc/{pid}/fd/"
    files = (folder + name for name in os.listdir(folder))
    memory = next(file for file in files if os.readlink(file) == "/memfd:brood (deleted)")
    source = os.open(memory, os.O_RDONLY)
    copy = os.memfd_create("brood")
    end = os.fstat(source).st_size
    os.ftruncate(copy, end)
    at = 0
    while at < end:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # nothing more
            break
        hole = os.lseek(source, at, os.SEEK_HOLE)
        while at < hole:
            part = os.pread(source, min(hole - at, 1 << 20), at)
            os.pwrite(copy, part, at)
            at += len(part)
    os.close(source)
    return copy


def check_damage(pid, layout_at, parts):
    """What looks at memory that somebody wrote over says so, or what it can make of it."""
    copy = copy_of_memory(pid)
    mine = os.getpid()
    result = top("--once", mine)
    assert result.returncode == 0 and f"family of {pid}" in result.stdout, result
    for seed in range(6):
        random.seed(seed)
        for part in parts:
            for i in range(4096):
                if random.randrange(8) == 0:
                    os.pwrite(copy, random.randbytes(1), part + i)
        for how in ["--json", "--once"]:
            result = top(how, mine)
            assert result.returncode in (0, 1), result
            assert (result.returncode == 0) == bool(result.stdout), result
            assert (result.returncode == 1) == result.stderr.startswith("brood-top: "), result
    os.pwrite(copy, b"\xff", layout_at)
    result = top("--once", mine)
    assert result.returncode == 1 and "another layout" in result.stderr, result
    os.close(copy)


def check_strangers():
    result = top("--once", os.getpid())
    assert result.returncode == 1 and "is in no family" in result.stderr, result
    result = top("--once", 2**22 + 1)
    assert result.returncode == 1 and "there is no process" in result.stderr, result
    for wrong in [[], ["--json"], ["12x"], ["1", "2"], ["--interval", "-1", "1"]]:
        result = top(*wrong)
        assert result.returncode == 2 and "brood-top [" in result.stderr, result


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    method = sys.argv[3]
    check_strangers()
    with subprocess.Popen(
        [sys.argv[2], method],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as family:
        try:
            assert family.stdout.readline() == "ready\n"
            layout_at, *parts = map(int, family.stdout.readline().split())
            check_family(family.pid, method)
            check_damage(family.pid, layout_at, parts)
        finally:
            os.killpg(family.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
