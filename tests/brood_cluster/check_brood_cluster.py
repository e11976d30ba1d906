#!/usr/bin/env python3
"""Checks brood-cluster: what it starts, says, refuses, and that nothing is left of it.
Usage: check_brood_cluster.py SCENARIO BROOD_CLUSTER APP RIGHTS_APP [DEMO]

SCENARIO is a function below; APP the guide's program, RIGHTS_APP one that
needs the rights of agents, DEMO examples/identifiers_cluster."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 40  # seconds for what must happen
SKIPPED = 77
SUMS = "14.392727\n15.085874\n15.491339\n15.779021\n"


class Cluster:
    """One that may be up, in a folder of its own."""

    def __init__(self, folder, name="state"):
        self.folder = Path(folder)
        self.state = self.folder / name
        self.environment = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        self.secrets = set()

    def tool(self, command, *arguments, status=0):
        """What the tool prints: where it is to end well, on stdout; else on stderr."""
        return self.run(sys.argv[2], command, "--state", self.state, *arguments, status=status)

    def run(self, *command, status=0, environment=None, said=False):
        """What it prints on stdout where it is to end well, or if `said`; else on stderr."""
        result = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env=environment or self.environment,
        )
        assert result.returncode == status, f"{command}: {result}"
        return result.stdout if said or status == 0 else result.stderr

    def up(self, *arguments):
        """Also keeps what must never be seen, and by which its processes are known."""
        said = self.tool("up", "--workers", 1, *arguments)
        secrets = self.program_environment()
        self.secrets.add(secrets["BROOD_CLUSTER_KEY"])
        for url in (secrets["BROOD_CLUSTER_URL"], self.agents_url()):
            self.secrets.add(re.search(r":([0-9a-f]{32})@", url)[1])
        return said

    def program_environment(self, **more):
        lines = self.tool("env").splitlines()
        pairs = dict(re.fullmatch(r"export (\w+)='(.*)'", line).groups() for line in lines)
        return self.environment | pairs | more

    def agents_url(self):
        text = (self.state / "agents.env").read_text(encoding="utf-8")
        return re.search(r"BROOD_CLUSTER_URL='(.*)'", text)[1]

    def status(self, whole=True):
        command = [sys.argv[2], "status", "--json", "--state", str(self.state)]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=self.environment
        )
        assert result.returncode == (0 if whole else 1), result
        view = json.loads(result.stdout)
        assert view["whole"] == whole, view
        return view

    def processes(self):
        """Those that have a secret in the environment, workers included, and the server."""
        mine = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environ = (folder / "environ").read_bytes()
                words = (folder / "cmdline").read_bytes()
                zombie = ") Z " in (folder / "stat").read_text(encoding="utf-8")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            known = any(secret.encode() in environ for secret in self.secrets)
            if not zombie and (known or str(self.state).encode() in words):
                mine.add(int(folder.name))
        return mine - {os.getpid()}

    def command_lines(self):
        text = b""
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text += file.read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
        return text.decode(errors="replace")

    def end(self):
        """For whatever has happened: nothing is left."""
        subprocess.run(
            [sys.argv[2], "down", "--grace", "0", "--state", str(self.state)],
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            env=self.environment,
        )
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def check_nothing_left(self):
        assert not self.state.exists(), list(self.state.iterdir())
        eventually("no process is left", lambda: not self.processes(), self.processes)


def eventually(what, holds, show=lambda: ""):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"never: {what} {show()}"
        time.sleep(0.02)


def ended(pid):
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    eventually(f"{pid} has ended", lambda: ended(pid))


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# ---- The scenarios -------------------------------------------------------------------------------


def life(cluster):
    app = sys.argv[3]
    said = cluster.up("--agents", 2, app)
    assert "2 agents with 2 workers" in said and f"brood-cluster env --state {cluster.state}" in said
    assert mode(cluster.state) == 0o700
    for file in cluster.state.iterdir():
        assert file.is_dir() or mode(file) == 0o600, file
    seen = cluster.command_lines()
    for secret in cluster.secrets:
        assert secret not in seen and secret not in said, secret

    again = cluster.tool("up", app, status=1)
    assert "is up already" in again and "brood-cluster down" in again, again
    assert cluster.run(app, environment=cluster.program_environment()) == SUMS

    view = cluster.status()
    assert [agent["process"] for agent in view["agents"]] == ["lives", "lives"], view
    assert [agent["workers"] for agent in view["agents"]] == [1, 1], view
    assert view["server"]["version"].startswith("2."), view
    streams = {stream["name"] for stream in view["streams"]}
    assert {"brood_tasks", "brood_results"} <= streams, view

    victim = view["agents"][0]["pid"]
    kill(victim)
    text = subprocess.run(
        [sys.argv[2], "status", "--state", str(cluster.state)],
        capture_output=True,
        text=True,
        check=False,
        env=cluster.environment,
    ).stdout
    assert re.search(rf"\.{victim}: GONE", text) and "1 workers, 0 tasks in hand" in text, text
    assert cluster.run(app, environment=cluster.program_environment()) == SUMS

    kill(view["server"]["pid"])
    view = cluster.status(whole=False)
    assert not view["server"]["lives"] and not view["server"]["answers"], view
    assert cluster.tool("down") == "cluster brood is down\n"
    cluster.check_nothing_left()
    assert "there is no cluster" in cluster.tool("down")
    assert "there is no cluster" in cluster.tool("status", status=1)
    assert "there is no cluster" in cluster.tool("env", status=1)


class RawNats:
    """As much of NATS' protocol as it takes to ask what a user may."""

    def __init__(self, url):
        user, password, host, port = re.fullmatch(r"nats://(\w+):(\w+)@(.*):(\d+)", url).groups()
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.lines = self.socket.makefile("r", encoding="latin-1")
        assert self.lines.readline().startswith("INFO ")
        self.login = {"user": user, "pass": password, "verbose": False, "pedantic": False}

    def ask(self, line):
        """The server's answer: PONG, or why not."""
        login = f"CONNECT {json.dumps(self.login)}\r\n"
        self.socket.sendall(f"{login if self.login else ''}{line}\r\nPING\r\n".encode())
        self.login = None
        return self.lines.readline().strip()

    def close(self):
        self.lines.close()
        self.socket.close()


def asked(url, line):
    connection = RawNats(url)
    try:
        return connection.ask(line)
    finally:
        connection.close()


def check_answers_stay(client, agent, tasks):
    """What an agent has the server answer to a subject of tasks is no task."""
    listener, speaker = RawNats(client), RawNats(agent)
    try:
        assert listener.ask("SUB brood.> 1") == "PONG"
        part = "brood.result_part.forged"
        wanted = "brood.api.DIRECT.GET.brood_parts.brood.part.forged"
        assert speaker.ask(f"SUB x 1\r\nPUB {part} 6\r\nforged").startswith("-ERR")
        said = speaker.ask(f"PUB {wanted} {tasks} 0\r\n\r\nPUB {part} {tasks} 6\r\nforged")
        while said != "PONG":
            said = speaker.lines.readline().strip()
        # The agent's own beat comes after all that, for it comes every second.
        heard = []
        while not any(line.startswith("MSG brood.beat") for line in heard[1:]):
            heard.append(listener.lines.readline().strip())
        assert any(line.startswith(f"MSG {part}") for line in heard), heard
        assert not any(tasks in line for line in heard), heard
    finally:
        listener.close()
        speaker.close()


def access(cluster):
    app = sys.argv[3]
    cluster.up(sys.argv[4])
    environment = cluster.program_environment()
    # The agent has its own user, and does all that an agent does, in parts, too.
    assert cluster.run(sys.argv[4], environment=environment) == "20000000 20000001 once!\n"

    client, agent = environment["BROOD_CLUSTER_URL"], cluster.agents_url()
    tasks = "brood.task.0123456789abcdef"
    for line in [
        "PUB brood.result.x 0\r\n",
        "PUB brood.beat 0\r\n",
        "SUB _INBOX.> 1",  # of its own account
        "SUB brood.note 1",
    ]:
        assert asked(agent, line) == "PONG", line
    for line in [
        f"PUB {tasks} 0\r\n",
        "PUB brood.note 0\r\n",
        "PUB $JS.API.STREAM.CREATE.x 2\r\n{}",
        "PUB $JS.API.STREAM.DELETE.brood_tasks 0\r\n",
        "PUB $JS.API.STREAM.MSG.GET.brood_tasks 0\r\n",
        "PUB $JS.API.DIRECT.GET.brood_parts 0\r\n",
        "PUB brood.part.x 0\r\n",
        "PUB $JS.API.DIRECT.GET.brood_result_parts.x 0\r\n",
        "SUB brood.part.> 1",
        "SUB brood.result_part.> 1",
        "PUB $JS.API.CONSUMER.MSG.NEXT.brood_results.x 0\r\n",
        "PUB $JS.API.CONSUMER.DELETE.brood_tasks.x 0\r\n",
        "PUB $JS.ACK.brood_results.x 0\r\n",
        "SUB brood.> 1",
        f"SUB {tasks} 1",
        "SUB brood.result.> 1",
        "SUB > 1",
    ]:
        assert "Permissions Violation" in asked(agent, line), line
        assert asked(client, line) == "PONG", line

    check_answers_stay(client, agent, tasks)

    wrong = re.sub(r":[0-9a-f]{32}@", ":wrong@", client)
    assert "Authorization Violation" in asked(wrong, "PUB x 0\r\n")
    refused = cluster.run(app, environment=environment | {"BROOD_CLUSTER_URL": wrong}, status=-6)
    assert "it wants other credentials" in refused and "wrong" not in refused, refused
    without = re.sub(r"\w+:\w+@", "", client)
    refused = cluster.run(app, environment=environment | {"BROOD_CLUSTER_URL": without}, status=-6)
    assert "it wants other credentials" in refused, refused
    cluster.tool("down")
    cluster.check_nothing_left()


def trusted(cluster):
    """Handles to queues and dictionaries are for tasks of agents that are trusted."""
    cluster.up(sys.argv[4])
    refused = cluster.run(
        sys.argv[4], "queue", status=3, environment=cluster.program_environment(), said=True
    )
    assert "--trust-agents" in refused, refused
    cluster.tool("down", "--grace", 1)
    cluster.up("--trust-agents", sys.argv[4])
    said = cluster.run(sys.argv[4], "queue", environment=cluster.program_environment())
    assert said == "42\n", said
    cluster.tool("down", "--grace", 1)
    cluster.check_nothing_left()


def hosts(cluster):
    app = sys.argv[3]
    ssh = cluster.folder / "ssh"
    ssh.write_text(
        "#!/bin/sh\n"
        "# ssh HOST COMMAND...: each host is this machine.\n"
        f'[ -e {cluster.folder}/no-$1 ] && {{ echo "no route to host $1" >&2; exit 255; }}\n'
        f'echo "$@" >>{cluster.folder}/seen\n'
        "shift\n"
        'exec "$@"\n',
        encoding="utf-8",
    )
    ssh.chmod(0o700)
    listed = cluster.folder / "hosts"
    listed.write_text("a  # the first\n\nb\n", encoding="utf-8")
    away = ["--ssh", ssh, "--address", "127.0.0.1"]
    said = cluster.up("--hosts-file", listed, "--agents", 2, *away, app)
    assert "4 agents with 4 workers" in said, said
    assert cluster.run(app, environment=cluster.program_environment()) == SUMS
    seen = (cluster.folder / "seen").read_text(encoding="utf-8") + cluster.command_lines()
    assert "a sh -s\n" in seen, seen
    for secret in cluster.secrets:
        assert secret not in seen, secret
    view = cluster.status()
    assert [agent["host"] for agent in view["agents"]] == ["a", "a", "b", "b"], view
    logs = list((cluster.folder / ".cache/brood-cluster/brood").iterdir())
    assert len(logs) == 4 and all(mode(log) == 0o600 for log in logs), logs

    # A host that cannot be reached, for a while.
    cut = cluster.folder / "no-b"
    cut.touch()
    kill(view["agents"][0]["pid"])
    view = cluster.status(whole=False)
    known = [agent["process"] for agent in view["agents"]]
    assert known == ["gone", "lives", "unknown", "unknown"], view
    said = cluster.tool("down", status=1)
    assert "b: no route to host b" in said and f"remove {cluster.state} to forget" in said, said
    left = {agent["pid"] for agent in view["agents"][2:]}
    assert left <= cluster.processes(), cluster.processes()
    cut.unlink()
    cluster.tool("down")
    cluster.check_nothing_left()
    assert not any((cluster.folder / ".cache/brood-cluster").iterdir()), "no log is left"

    # What one host does not do is undone on the others.
    cut.touch()
    said = cluster.tool("up", "--hosts", "a,b", *away, app, status=1)
    assert "b: no route to host b" in said, said
    cluster.check_nothing_left()
    cut.unlink()
    said = cluster.tool("up", "--hosts", "a,b", *away, "/no/app", status=1)
    assert "a: /no/app is not there" in said and "b: /no/app is not there" in said, said
    said = cluster.tool("up", "--hosts", "a", *away, "/bin/false", status=1)
    assert "the agent on a" in said and "brood::Runtime" in said, said
    cluster.check_nothing_left()


def check_interrupted(cluster, sleeper):
    state = cluster.state / "state"
    command = [sys.argv[2], "up", "--state", str(cluster.state), str(sleeper)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=cluster.environment) as up:
        eventually(
            "its agent is started",
            lambda: state.exists() and "\nagent " in state.read_text(encoding="utf-8"),
        )
        up.terminate()
        said = up.stderr.read()
        assert up.wait(PATIENCE) == 1 and said == "brood-cluster: interrupted\n", said
    cluster.check_nothing_left()


def failures(cluster):
    app = sys.argv[3]
    plain = cluster.folder / "plain"
    plain.write_text("", encoding="utf-8")
    talker = cluster.folder / "talker"
    talker.write_text("#!/bin/sh\necho what do you want >&2\nexit 3\n", encoding="utf-8")
    talker.chmod(0o700)
    sleeper = cluster.folder / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 600\n", encoding="utf-8")
    sleeper.chmod(0o700)
    with socket.socket() as taken:  # nobody listens, and nobody can
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for arguments, words in [
            ([plain], "plain is no program that can be executed"),
            (["no-such-program"], "no-such-program is no program"),
            (["--server", "/no/server", app], "/no/server is no program"),
            (["--server", talker, app], "ended with 3:\n    what do you want"),
            ([talker], "ended with 3:\n    what do you want\n  is it a program that uses brood::cl"),
            (["--wait", 1, sleeper], "was not heard of for 1 s; of 1 agents, 0 were"),
            (["--port", port, app], "address already in use"),
        ]:
            said = cluster.tool("up", *arguments, status=1)
            assert words in said, (arguments, said)
            cluster.check_nothing_left()
    check_interrupted(cluster, sleeper)
    (cluster.folder / "file").write_text("", encoding="utf-8")
    nowhere = Cluster(cluster.folder, "file/state")
    assert "cannot be made" in nowhere.tool("up", app, status=1)
    for arguments, words in [
        ([], "a command is missing"),
        (["upp"], "there is no command 'upp'"),
        (["up"], "the program is missing"),
        (["up", "--agents", "0", app], "leave the program away"),
        (["up", "--agents", "many", app], "--agents: a number from 0 to 1024, not 'many'"),
        (["up", "--port", "70000", app], "--port: a number"),
        (["up", "--name", "a/b", app], "--name: letters"),
        (["up", "--hosts", "a,a", app], "host a is there twice"),
        (["up", "--hosts", "-o", app], "'-o' is no name of a host"),
        (["up", "--hosts-file", "/no/file", app], "/no/file cannot be read"),
        (["up", "--tls", "a,b", app], "--tls: three files"),
        (["up", "--tls", "/no/a,b,c", app], "/no/a cannot be read"),
        (["up", "--lease"], "--lease needs a value"),
        (["down", "--port", "1"], "brood-cluster down has no option --port"),
        (["status", "x"], "brood-cluster status takes no 'x'"),
        (["slurm", "--time", "1 day", app], "--time: one word"),
    ]:
        said = cluster.run(sys.argv[2], *arguments, status=2)
        assert words in said and "--help" in said, (arguments, said)
    for command in [[], ["up"], ["down"], ["status"], ["env"], ["slurm"]]:
        assert cluster.run(sys.argv[2], *command, "--help").startswith("usage: brood-cluster")
    assert "HOME" in cluster.run(
        sys.argv[2], "up", app, status=1, environment={"PATH": os.environ["PATH"]}
    )


def slurm(cluster):
    app = sys.argv[3]
    cluster.up("--agents", 0)
    made = cluster.tool("slurm", "--array", 8, "--cpus", 2, "--time", "1:00:00", "--partition", "all", app)
    for line in [
        "#SBATCH --array=1-8",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:TERM@60",
        "#SBATCH --partition=all",
        "#SBATCH --time=1:00:00",
        f"exec '{app}' --brood-agent",
    ]:
        assert line in made.splitlines(), (line, made)
    assert not any(secret in made for secret in cluster.secrets), made
    script = cluster.folder / "agents.sh"
    script.write_text(made, encoding="utf-8")
    cluster.run("bash", "-n", script)

    # What Slurm does with it: run it, and send SIGTERM to the process that bash was.
    environment = cluster.environment | {"SLURM_CPUS_PER_TASK": "2"}
    with subprocess.Popen(["bash", str(script)], env=environment, stderr=subprocess.PIPE) as job:
        try:
            views = []
            eventually("it is heard of", lambda: views.append(cluster.status()) or views[-1]["others"])
            others = views[-1]["others"]
            assert not views[-1]["agents"], views
            assert others[0]["workers"] == 2 and others[0]["node"].endswith(f".{job.pid}"), others
            assert cluster.run(app, environment=cluster.program_environment()) == SUMS
            job.terminate()
            assert job.wait(PATIENCE) == 0, job.stderr.read()
        finally:
            job.kill()
    secrets = cluster.state / "agents.env"
    secrets.chmod(0o644)
    said = cluster.run("bash", script, status=1)
    assert "others could read the key" in said, said
    cluster.tool("down")
    cluster.check_nothing_left()


def certificates(folder):
    """ca.pem, and of a server: right.pem with right.key, and other.pem, which is another host's."""

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, text=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name, host in [("right", "IP:127.0.0.1"), ("other", "DNS:elsewhere.example")]:
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "extensions").write_text(f"subjectAltName={host}\n", encoding="utf-8")
        signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed_by, "-out", f"{name}.pem")


def tls(cluster):
    if shutil.which("openssl") is None:
        print("openssl is not installed")
        sys.exit(SKIPPED)
    app = sys.argv[3]
    folder = cluster.folder
    certificates(folder)
    files = ",".join(str(folder / name) for name in ["right.pem", "right.key", "ca.pem"])
    cluster.up("--tls", files, app)
    environment = cluster.program_environment()
    assert environment["BROOD_CLUSTER_URL"].startswith("tls://"), environment
    assert cluster.run(app, environment=environment) == SUMS
    assert cluster.status()["server"]["answers"]
    del environment["BROOD_CLUSTER_CA"]
    refused = cluster.run(app, environment=environment, status=-6)
    assert "EngineError" in refused and "ca_file" in refused, refused
    cluster.tool("down")
    cluster.check_nothing_left()

    files = ",".join(str(folder / name) for name in ["other.pem", "other.key", "ca.pem"])
    said = cluster.tool("up", "--wait", 1, "--tls", files, app, status=1)
    assert "for this very host name" in said, said
    cluster.check_nothing_left()


def demo(cluster):
    program = sys.argv[5]
    cluster.up("--agents", 3, "--lease", 1, program)
    folder = Path(__file__).resolve().parents[2] / "src"
    said = cluster.run(program, "--quiet", "--kill", folder, environment=cluster.program_environment())
    assert re.search(r"^cluster under fire .* 3 agents, 1 killed, totals equal$", said, re.M), said
    agents = re.findall(r"^agent - (\d+) ", (cluster.state / "state").read_text(encoding="utf-8"), re.M)
    assert sorted(ended(pid) for pid in agents) == [False, False, True], agents
    cluster.tool("down")
    cluster.check_nothing_left()


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    scenario = {f.__name__: f for f in [life, access, trusted, hosts, failures, slurm, tls, demo]}[sys.argv[1]]
    if not any(shutil.which("nats-server", path=f"{p}:/usr/sbin") for p in [os.environ["PATH"]]):
        print("nats-server is not installed")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory(prefix="brood-test-") as folder:
        cluster = Cluster(folder)
        try:
            scenario(cluster)
        except BaseException:
            for log in sorted(Path(folder).rglob("*.log")):
                print(f"== {log}\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
            raise
        finally:
            cluster.end()


if __name__ == "__main__":
    main()
