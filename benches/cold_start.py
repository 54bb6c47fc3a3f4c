#!/usr/bin/env python3
"""How long a model needs to be there, with spare processes and without: on the real worker with a tiny model, whose
weights cost nothing. Its workers share a TMPDIR: on Linux MLX compiles kernels there, which take longer than all else
and are no part of this.

usage: cold_start.py HUB VENV [ROUNDS]
HUB is the hub's program, VENV an environment with mlx-openai-server (tests/support/real-worker.sh makes one on Linux),
ROUNDS 9 by default. Two hubs take turns within each round, one of them without spares; the medians are compared. Exit
status 1, and a line for each, if a limit is exceeded. A round takes some 100 s on two quiet cores.
"""

import http.client
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HUB, VENV = (os.path.abspath(path) for path in sys.argv[1:3])
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 9
MAKE_MODEL = pathlib.Path(__file__).resolve().parent.parent / "tests/support/make_tiny_model.py"
BARE, SPARE = "bare", "spare"
LOAD, IMPORT, HELD = "load", "a spare is there again", "bytes held after ten chats"
# The most that each may be of what it is set against: the same without spares, where nothing else is said.
LIMITS = {
    LOAD: 0.10,
    "first token of a request that loads": 0.15,
    "swap in a full group": 0.20,
    # From the end of a load; against what a bare import takes.
    IMPORT: 1.3,
    # Since the end of the first load; against those five seconds, or what a spare may take where that is longer, and
    # what a load with a spare may take.
    "second load 5 s after the first": 1.0,
    # Nothing is slower where there is no spare, within what a shared machine measures.
    "first load after the start": 1.05,
    "load in another environment than the spare's": 1.05,
    # Against the same stream while none is made.
    "p99 gap of a stream while a spare is made": 1.2,
    "pause between the tokens of a stream": 1.05,
    HELD: 1.05,
}
UNITS = {HELD: ("MB", 1 << 20)}
UNITS |= dict.fromkeys([name for name in LIMITS if "stream" in name], ("ms", 1e-3))
AFTER = 5
MOST_MORE = 30 << 20
TOKENS = 200
# Seconds of streams while a spare is made, and as long while none is.
STREAMS = 4
# The token at the end of the model's answers.
END = "2"
# Fewer gaps than that have no 99th percentile worth the name.
GAPS = 300
# Imports what it is told to, as the program's processes do.
IMPORTS = """
import importlib, json, sys
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except BaseException:
        pass
"""


class Hub:
    """A hub with two models in a group that holds one, a third beside them, and a fourth in another environment."""

    def __init__(self, folder, port, spares, name="hub"):
        self.folder, self.port = pathlib.Path(folder) / f"{name}-{spares}", port
        self.folder.mkdir()
        # Loads that did not use the spare that was there.
        self.unused = 0
        # The worker has seeds only where it does not batch.
        more = {"a": ", group: g", "b": ", group: g, disable_batching: true", "c": "", "d": ""}
        models = "".join(
            f"  - {{name: {model}, model_path: {folder}/{model}, jit_enabled: true, default: true{keys}, "
            f"env: {{TMPDIR: {folder}/temporary{', OTHER: yes' if model == 'd' else ''}}}}}\n"
            for model, keys in more.items()
        )
        (self.folder / "hub.yaml").write_text(
            f"host: 127.0.0.1\nport: {port}\nmodel_starting_port: {port + 1}\nlog_path: ./logs\nspares: {spares}\n"
            f"worker_command: {VENV}/bin/mlx-openai-server\npolicies: [lru_swap]\n"
            f"groups:\n  - {{name: g, max_loaded: 1}}\nmodels:\n{models}"
        )
        command = [HUB, "--config", str(self.folder / "hub.yaml"), "serve"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(1000):
            try:
                self.call("GET", "/health")
                return
            except OSError:
                time.sleep(0.02)
        sys.exit("the hub does not start")

    def send(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request(method, path, json.dumps(body or {}), {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return answer

    def call(self, method, path, body=None):
        return json.loads(self.send(method, path, body).read())

    def status(self):
        return self.call("GET", "/hub/status")

    def metadata(self, model):
        return next(one["metadata"] for one in self.status()["models"] if one["id"] == model)

    def act(self, model, verb):
        self.call("POST", f"/hub/models/{model}/{verb}")

    def unload(self, model):
        if self.metadata(model)["memory_state"] == "loaded":
            self.act(model, "unload")

    def timed(self, model, load):
        """Seconds of a load; a spare that is ready before is to become its worker."""
        ready = [one["pid"] for one in self.status()["spares"] if one["ready"]]
        begun = time.perf_counter()
        load(model)
        took = time.perf_counter() - begun
        if ready and self.metadata(model)["pid"] not in ready:
            self.unused += 1
        return took

    def load(self, model):
        return self.timed(model, lambda model: self.act(model, "load"))

    def first_token(self, model):
        """Seconds from a request that loads to its first token."""
        begun, moments = None, []

        def ask(model):
            nonlocal begun
            begun = time.perf_counter()
            moments.extend(self.stream(model, 4))

        self.timed(model, ask)
        return moments[0] - begun

    def chat(self, tokens, **more):
        message = {"role": "user", "content": "hello"}
        chat = {"messages": [message], "max_tokens": tokens, "seed": 7, "temperature": 1.0}
        # Otherwise the model, which knows nothing, ends its answer anywhere.
        return {**chat, "logit_bias": {END: -100}, **more}

    def stream(self, model, tokens=TOKENS):
        """The moments of its tokens, as far as they are text."""
        moments, lines = [], []
        for line in self.send("POST", "/v1/chat/completions", self.chat(tokens, model=model, stream=True)):
            lines.append(line)
            if b'"content": "' in line:
                moments.append(time.perf_counter())
        assert moments, b"".join(lines).decode()
        return moments

    def answer(self, model):
        answer = self.call("POST", "/v1/chat/completions", self.chat(32, model=model))
        return answer["choices"][0]["message"]

    def is_making(self):
        return any(not one["ready"] for one in self.status()["spares"])

    def wait_for_making(self):
        while not self.is_making():
            time.sleep(0.02)

    def wait_for_spare(self):
        while not any(one["ready"] for one in self.status()["spares"]):
            time.sleep(0.02)

    def end(self):
        self.process.terminate()
        self.process.wait()


class Found:
    """What is measured, by name, with spares and without; and what is exceeded."""

    def __init__(self):
        self.rows, self.said, self.missed = {name: {BARE: [], SPARE: []} for name in LIMITS}, {BARE: [], SPARE: []}, []

    def note(self, name, kind, value):
        self.rows[name][kind].append(value)

    def ask(self, kind, hub):
        """Asks `b`, which was just loaded, for what it answers to the same seed."""
        self.said[kind].append([hub.answer("b") for _ in range(10)])

    def last(self, name, kind):
        return self.rows[name][kind][-1]

    def limit(self, name, value, most):
        if value > most:
            self.missed.append(f"{name}: {value:.3f}, at most {most}")

    def tell_round(self, number):
        shown = lambda values: round(values[-1], 4) if values else None
        last = {name: [shown(kinds[BARE]), shown(kinds[SPARE])] for name, kinds in self.rows.items()}
        print(f"round {number}: {json.dumps(last)}", flush=True)

    def tell(self):
        for name, kinds in self.rows.items():
            if len(kinds[BARE]) < ROUNDS or len(kinds[SPARE]) < ROUNDS:
                self.missed.append(f"{name}: it was measured in {len(kinds[SPARE])} of {ROUNDS} rounds")
                continue
            unit, size = UNITS.get(name, ("s", 1))
            against, spare = statistics.median(kinds[BARE]), statistics.median(kinds[SPARE])
            print(f"{name}: {against / size:.3f} {unit}, {spare / size:.3f} {unit}, ratio {spare / against:.3f}, at most {LIMITS[name]}")
            self.limit(name, spare / against, LIMITS[name])
        if self.rows[HELD][SPARE]:
            more = statistics.median(self.rows[HELD][SPARE]) - statistics.median(self.rows[HELD][BARE])
            self.limit("bytes held more", more, MOST_MORE)
        if any(said != self.said[BARE][0] for said in self.said[BARE]):
            print("the worker answers differently to the same seed, also without spares")
        else:
            others = sum(said != self.said[BARE][0] for said in self.said[SPARE])
            print(f"other answers to the same seeds: {others} of {len(self.said[SPARE])}")
            self.limit("other answers to the same seeds", others, 0)


def p99(values):
    return sorted(values)[int(len(values) * 0.99)]


def gaps(moments):
    return [later - earlier for earlier, later in zip(moments, moments[1:])]


def beside(hub, is_making):
    """The 99th percentile of the gaps in streams, one after another, while a spare is made or while none is."""
    found, end = [], time.perf_counter() + STREAMS
    while time.perf_counter() < end:
        moments = hub.stream("c")
        # Otherwise a part of it had company and a part had none.
        if hub.is_making() != is_making:
            break
        found += gaps(moments)
    return p99(found) if len(found) >= GAPS else None


def bare_import(hub):
    """Seconds in which the program's two processes import what they do, one after the other."""
    programs = json.loads((hub.folder / "logs/spares.json").read_text())
    (modules,) = [modules for types in programs.values() for modules in types.values()]
    begun = time.perf_counter()
    for names in (modules["server"], modules["model"]):
        subprocess.run([f"{VENV}/bin/python", "-c", IMPORTS], input=json.dumps(names), text=True, check=True, capture_output=True)
    return time.perf_counter() - begun


def without(hub, found):
    """What loads take by themselves; `a` is loaded afterwards."""
    hub.unload("b")
    if hub.metadata("a")["memory_state"] != "loaded":
        hub.load("a")
    found.note("swap in a full group", BARE, hub.first_token("b"))
    found.ask(BARE, hub)
    hub.unload("b")
    found.note("first token of a request that loads", BARE, hub.first_token("a"))
    hub.unload("a")
    found.note(LOAD, BARE, hub.load("a"))


def with_spares(hub, found):
    """The same with a spare each time; the two hubs end alike."""
    hub.wait_for_spare()
    found.note("swap in a full group", SPARE, hub.first_token("b"))
    # `c` has company now, and none afterwards.
    hub.wait_for_making()
    busy = beside(hub, True)
    hub.wait_for_spare()
    found.ask(SPARE, hub)
    quiet = beside(hub, False)
    if busy and quiet:
        found.note("p99 gap of a stream while a spare is made", SPARE, busy)
        found.note("p99 gap of a stream while a spare is made", BARE, quiet)
    hub.unload("b")
    found.note("first token of a request that loads", SPARE, hub.first_token("a"))
    hub.wait_for_spare()
    hub.unload("a")
    found.note(LOAD, SPARE, hub.load("a"))
    ended = time.perf_counter()
    hub.wait_for_spare()
    found.note(IMPORT, SPARE, time.perf_counter() - ended)
    hub.unload("a")
    hub.load("a")
    ended = time.perf_counter()
    hub.unload("a")
    time.sleep(max(0, ended + AFTER - time.perf_counter()))
    hub.load("a")
    found.note("second load 5 s after the first", SPARE, time.perf_counter() - ended)


def alike(hubs, found):
    """Ten chats, and the rate of streams, with two workers that were just loaded."""
    for hub in hubs.values():
        for _ in range(10):
            hub.answer("a")
    pauses = {kind: [] for kind in hubs}
    for _ in range(5):
        for kind, hub in hubs.items():
            pauses[kind] += gaps(hub.stream("a"))
    for kind, values in pauses.items():
        found.note("pause between the tokens of a stream", kind, statistics.mean(values))


def first_loads(folder, number, found):
    """The first load of a hub that knows nothing of its worker yet, and that of a model for which its spare is none."""
    for kind, spares in ((BARE, 0), (SPARE, 1)):
        hub = Hub(folder, 27280, spares, f"first-{number}")
        try:
            found.note("first load after the start", kind, hub.load("a"))
            if spares:
                hub.wait_for_spare()
            hub.unload("a")
            begun = time.perf_counter()
            hub.act("d", "load")
            found.note("load in another environment than the spare's", kind, time.perf_counter() - begun)
        finally:
            hub.end()


def one_round(folder, number, hubs, found):
    without(hubs[BARE], found)
    with_spares(hubs[SPARE], found)
    alike(hubs, found)
    hubs[SPARE].wait_for_spare()
    took = bare_import(hubs[SPARE])
    found.note(IMPORT, BARE, took)
    may_take = max(AFTER, LIMITS[IMPORT] * took) + LIMITS[LOAD] * found.last(LOAD, BARE)
    found.note("second load 5 s after the first", BARE, may_take)
    first_loads(folder, number, found)
    # By now it has been measured since.
    for kind, hub in hubs.items():
        found.note(HELD, kind, hub.metadata("a")["memory_bytes"])


def main():
    # The hubs are ended then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "temporary").mkdir()
        for seed, name in enumerate(("a", "b", "c", "d")):
            command = [f"{VENV}/bin/python", MAKE_MODEL, f"{folder}/{name}", "--seed", str(seed)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        hubs = {}
        try:
            for kind, port, spares in ((BARE, 27200, 0), (SPARE, 27240, 1)):
                hubs[kind] = Hub(folder, port, spares)
            # The kernels of all of them are compiled here.
            for model in ("b", "c", "a"):
                hubs[SPARE].act(model, "load")
                hubs[SPARE].stream(model)
            for number in range(ROUNDS):
                one_round(folder, number + 1, hubs, found)
                found.tell_round(number + 1)
            found.limit("loads that did not use the spare that was there", hubs[SPARE].unused, 0)
        finally:
            for hub in hubs.values():
                hub.end()
    found.tell()
    for line in found.missed:
        print(f"exceeded: {line}")
    sys.exit(1 if found.missed else 0)


if __name__ == "__main__":
    main()
