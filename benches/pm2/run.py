#!/usr/bin/env python3
"""pmd beside PM2, both spoken to by PM2's own command and on PM2's own sockets.

    PMD_BIN=target/x86_64-unknown-linux-musl/release/pmd benches/pm2/run.py [--rounds N] [ROW...]

Rows: list, request, messages, memory, command. Needs node, and the packages of tests/pm2
(`npm ci --prefix tests/pm2`). Both work on directories of their own and are ended at the end; the
rounds alternate. Prints a table: medians, lowest to highest, and the ratio that is asked for.
"""

import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PM2 = ROOT / "tests/pm2/node_modules/pm2/bin/pm2"
PMD = Path(os.environ.get("PMD_BIN", ROOT / "target/release/pmd")).resolve()

# Answers each message with one of its own, and floods when it is told to.
WORKER = """
let heard = 0;
process.on('message', ({ data: packet }) => {
  if (packet.flood) {
    for (let n = 0; n < packet.flood; n++) process.send({type: 'bench:flood', data: {n}});
  } else if (++heard === packet.until) {
    heard = 0;
    process.send({type: 'bench:heard', data: {}});
  }
});
setInterval(() => {}, 100000);
"""
IDLE = "setInterval(() => {}, 100000);\n"


def frame(*parts):
    """An AMP message of JSON and string arguments."""
    out = bytes([0x10 | len(parts)])
    for part in parts:
        body = b"s:" + part.encode() if isinstance(part, str) else b"j:" + json.dumps(part).encode()
        out += struct.pack(">I", len(body)) + body
    return out


class Wire:
    """A connection to one of PM2's sockets, or to the echo."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.unread = bytearray()
        self.calls = 0
        self.room = bytearray(4 << 20)

    def pass_over(self, length):
        """Takes a message whose length is known, at the least cost for this side."""
        while length > 0:
            length -= self.socket.recv_into(self.room)

    def message(self):
        """The parts of the next message."""
        while True:
            parts, at = [], 1
            for _ in range(self.unread[0] & 15 if self.unread else 99):
                if len(self.unread) < at + 4:
                    break
                (length,) = struct.unpack_from(">I", self.unread, at)
                if len(self.unread) < at + 4 + length:
                    break
                parts.append(bytes(self.unread[at + 4 : at + 4 + length]))
                at += 4 + length
            else:
                del self.unread[:at]
                return parts
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError("the daemon closed the connection")
            self.unread += more

    def send(self, method, *args):
        self.calls += 1
        body = {"type": "call", "method": method, "args": list(args)}
        self.socket.sendall(frame(body, f"{os.getpid()}:{self.calls}"))

    def call(self, method, *args):
        self.send(method, *args)
        answer = json.loads(self.message()[0][2:])
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["args"][0] if answer["args"] else None


class Subject:
    """One of the two daemons, in a directory of its own."""

    def __init__(self, name):
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "PM2_HOME": str(self.home),
            "PM2_DISABLE_VERSION_CHECK": "1", "NO_COLOR": "1",
        }
        (self.home / "touch").write_text(str(int(time.time() * 1000)))
        (self.home / "module_conf.json").write_text("{}")
        self.process = None
        if name == "pmd":
            self.process = subprocess.Popen(
                [PMD, "daemon", "--foreground", "--home", self.home / "pmd", "--no-web"],
                env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not self.answers():
                time.sleep(0.01)
        else:
            self.pm2("ping")

    def answers(self):
        try:
            Wire(self.home / "rpc.sock").socket.close()
            return True
        except OSError:
            return False

    def pm2(self, *args):
        done = subprocess.run(
            ["node", PM2, *args], env=self.env, cwd=self.home, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pm2 {' '.join(args)}: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.stdout

    def start(self, apps):
        file = self.home / "apps.json"
        file.write_text(json.dumps({"apps": apps}))
        self.pm2("start", str(file))

    def script(self, name, text):
        path = self.home / name
        path.write_text(text)
        return str(path)

    def rpc(self):
        return Wire(self.home / "rpc.sock")

    def daemons(self):
        """The pids of the daemon, and of its keeper."""
        if not self.process:
            return [int((self.home / "pm2.pid").read_text())]
        pids = [self.process.pid]
        for pid in children(self.process.pid):
            if os.readlink(f"/proc/{pid}/exe") == str(PMD):
                pids.append(pid)
        return pids

    def end(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
        else:
            self.pm2("kill")
        shutil.rmtree(self.home, ignore_errors=True)


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pid, field):
    """A field of smaps_rollup, in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def p50(calls, act):
    """The median time of a call, in microseconds."""
    times = []
    for _ in range(calls):
        before = time.perf_counter_ns()
        act()
        times.append((time.perf_counter_ns() - before) / 1000)
    return statistics.median(times)


# ---- rows: each gives {name of a figure: {subject: value}} for one round


def row_list(subjects):
    for subject in subjects:
        found = subject.rpc().call("getMonitorData", {})
        if len(found) != 100:
            if found:
                subject.pm2("delete", "all")
            subject.start([{"name": f"s{n}", "script": "sleep", "args": "100000"} for n in range(100)])
    figures = {}
    for subject in subjects:
        wire = subject.rpc()
        assert len(wire.call("getMonitorData", {})) == 100

        def act(wire=wire):
            wire.send("getMonitorData", {})
            first = wire.socket.recv_into(wire.room)
            (length,) = struct.unpack_from(">I", wire.room, 1)
            tail = len(f"s:{os.getpid()}:{wire.calls}")
            wire.pass_over(5 + length + 4 + tail - first)

        figures[subject.name] = p50(100, act) / 1000
    return {"getMonitorData of 100 processes, p50, ms": figures}


def echo(path):
    """A process that sends back what it gets, and its pid."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    pid = os.fork()
    if pid == 0:
        peer, _ = listener.accept()
        while data := peer.recv(65536):
            peer.sendall(data)
        os._exit(0)
    listener.close()
    return pid


def row_request(subjects):
    figures = {}
    message = frame({"type": "call", "method": "getVersion", "args": [{}]}, "1:1")
    with tempfile.TemporaryDirectory() as place:
        pid = echo(Path(place) / "echo.sock")
        for name, path in [("echo", Path(place) / "echo.sock")] + [
            (subject.name, subject.home / "rpc.sock") for subject in subjects
        ]:
            wire = Wire(path)

            def act(wire=wire):
                wire.socket.sendall(message)
                wire.message()

            figures[name] = p50(2000, act)
            wire.socket.close()
        os.waitpid(pid, 0)
    return {"smallest request on rpc.sock, p50, us": figures}


def row_messages(subjects, count=20000):
    down, up = {}, {}
    for subject in subjects:
        rpc, bus = subject.rpc(), Wire(subject.home / "pub.sock")
        if not any(p["name"] == "worker" for p in rpc.call("getMonitorData", {})):
            subject.start([{"name": "worker", "script": subject.script("worker.js", WORKER)}])
        found = [p for p in rpc.call("getMonitorData", {}) if p["name"] == "worker"]
        worker = found[0]["pm_id"]

        def answers(count, rpc=rpc):
            for _ in range(count):
                answer = rpc.message()[0]
                assert b'"error"' not in answer, answer

        # PM2 of today sends with `msgProcess` only what a program has announced as its action.
        def packet(data, worker=worker):
            return {"id": worker, "type": "process:msg", "topic": "bench", "data": data}

        def await_events(kind, count, bus=bus):
            while count:
                if bus.message()[0] == b"s:" + kind:
                    count -= 1

        time.sleep(0.5)  # the program is up
        before = time.perf_counter()
        reader = threading.Thread(target=answers, args=(count,))
        reader.start()
        for _ in range(count):
            rpc.send("sendDataToProcessId", packet({"until": count}))
        await_events(b"bench:heard", 1)
        down[subject.name] = count / (time.perf_counter() - before)
        reader.join()
        before = time.perf_counter()
        rpc.call("sendDataToProcessId", packet({"flood": count}))
        await_events(b"bench:flood", count)
        up[subject.name] = count / (time.perf_counter() - before)
    return {
        "messages to a program, a second": down,
        "messages of a program on the bus, a second": up,
    }


def row_memory(subjects):
    daemon, program = {}, {}
    for subject in subjects:
        idle = subject.script("idle.js", IDLE)
        subject.start([{"name": f"n{n}", "script": idle} for n in range(10)])
        time.sleep(2)  # they have come to rest
        found = [p for p in subject.rpc().call("getMonitorData", {}) if p["name"].startswith("n")]
        daemon[subject.name] = sum(memory(pid, "Rss") for pid in subject.daemons())
        program[subject.name] = statistics.median(memory(p["pid"], "Rss") for p in found)
    bare = subprocess.Popen(["node", idle], env=subject.env)
    time.sleep(1)
    program["bare node"] = memory(bare.pid, "Rss")
    bare.kill()
    bare.wait()
    for subject in subjects:
        subject.pm2("delete", "all")
    return {
        "daemon's memory with 10 Node programs, MiB": daemon,
        "memory of each of them, MiB": program,
    }


def row_command(subjects):
    figures = {}
    for subject in subjects:
        subject.pm2("ls")
        figures[subject.name] = p50(5, lambda: subject.pm2("ls")) / 1000
    return {"`pm2 ls`, the real command, ms": figures}


ROWS = {
    "memory": row_memory,
    "request": row_request,
    "messages": row_messages,
    "list": row_list,
    "command": row_command,
}


def main():
    arguments = sys.argv[1:]
    rounds = 3
    if "--rounds" in arguments:
        at = arguments.index("--rounds")
        rounds = int(arguments[at + 1])
        del arguments[at : at + 2]
    unknown = [name for name in arguments if name not in ROWS]
    if unknown or not PM2.exists() or not PMD.exists():
        missing = [str(path) for path in (PM2, PMD) if not path.exists()]
        sys.exit(f"run.py: no row {unknown}; rows: {', '.join(ROWS)}" if unknown
                 else f"run.py: missing: {', '.join(missing)}")
    subjects = [Subject("pm2"), Subject("pmd")]
    seen = {}
    try:
        for name, row in ROWS.items():
            if arguments and name not in arguments:
                continue
            for turn in range(1 if name == "memory" else rounds):
                for figure, values in row(subjects[:: 1 if turn % 2 == 0 else -1]).items():
                    for subject, value in values.items():
                        seen.setdefault(figure, {}).setdefault(subject, []).append(value)
    finally:
        for subject in subjects:
            subject.end()
    print("| what | PM2 | pmd | pmd / PM2 | beside |")
    print("|---|---:|---:|---:|---|")
    for figure, values in seen.items():
        middle = {subject: statistics.median(many) for subject, many in values.items()}
        beside = "; ".join(f"{subject}: {value:.3g}" for subject, value in middle.items()
                           if subject not in ("pm2", "pmd"))
        print(f"| {figure} | {shown(values['pm2'])} | {shown(values['pmd'])} "
              f"| {middle['pmd'] / middle['pm2']:.3g} | {beside} |")


def shown(values):
    middle = statistics.median(values)
    if len(values) == 1:
        return f"{middle:.4g}"
    return f"{middle:.4g} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    main()
