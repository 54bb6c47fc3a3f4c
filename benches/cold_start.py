#!/usr/bin/env python3
"""How long a model needs to be there, with spare processes and without: on the real worker with a tiny model, whose
weights cost nothing. Its workers share a TMPDIR: on Linux MLX compiles kernels there, which take longer than all else
and are no part of this.

usage: cold_start.py HUB VENV [ROUNDS]
HUB is the hub's program, VENV an environment with mlx-openai-server (tests/support/real-worker.sh makes one on Linux),
ROUNDS 9 by default. Two hubs take turns within each round, one of them without spares; the medians are compared.
"""

import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HUB, VENV = (os.path.abspath(path) for path in sys.argv[1:3])
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 9
MAKE_MODEL = pathlib.Path(__file__).resolve().parent.parent / "tests/support/make_tiny_model.py"
TOKENS = 200


class Hub:
    """A hub with two models in a group that holds one, and a third beside them."""

    def __init__(self, folder, port, spares):
        self.folder, self.port = pathlib.Path(folder) / f"spares-{spares}", port
        self.folder.mkdir()
        (pathlib.Path(folder) / "temporary").mkdir(exist_ok=True)
        models = "".join(
            f"  - {{name: {name}, model_path: {folder}/{name}, jit_enabled: true, default: true, "
            f"env: {{TMPDIR: {folder}/temporary}}{group}}}\n"
            for name, group in (("a", ", group: g"), ("b", ", group: g"), ("c", ""))
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

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request(method, path, json.dumps(body or {}), {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)

    def act(self, model, verb):
        begun = time.perf_counter()
        self.call("POST", f"/hub/models/{model}/{verb}")
        return time.perf_counter() - begun

    def stream(self, model, tokens=TOKENS):
        """The moment of the request, and those of its events."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        body = {"model": model, "stream": True, "max_tokens": tokens, "seed": 7, "temperature": 1.0}
        body["messages"] = [{"role": "user", "content": "hello"}]
        begun = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        moments = []
        for line in answer:
            if line.startswith(b"data: {") and b'"content"' in line:
                moments.append(time.perf_counter())
        return begun, moments

    def first_token(self, model):
        begun, moments = self.stream(model, 4)
        return moments[0] - begun

    def answer(self, model):
        body = {"model": model, "max_tokens": 32, "seed": 7, "temperature": 1.0}
        body["messages"] = [{"role": "user", "content": "hello"}]
        return self.call("POST", "/v1/chat/completions", body)["choices"][0]["message"]

    def metadata(self, model):
        models = self.call("GET", "/hub/status")["models"]
        return next(one["metadata"] for one in models if one["id"] == model)

    def spare(self):
        """Waits until there is one; says how long it was being made, as far as that was seen."""
        seen = None
        while True:
            spares = self.call("GET", "/hub/status")["spares"]
            if any(one["ready"] for one in spares):
                return time.perf_counter() - (seen or time.perf_counter())
            if spares:
                seen = seen or time.perf_counter()
            time.sleep(0.01)

    def end(self):
        self.process.terminate()
        self.process.wait()


def p99(values):
    return sorted(values)[int(len(values) * 0.99)]


def gaps(moments, begin=0.0, end=float("inf")):
    within = [moment for moment in moments if begin <= moment <= end]
    return [later - earlier for earlier, later in zip(within, within[1:])]


def turn(hub, has_spares, found):
    wait = hub.spare if has_spares else lambda: None
    note = lambda name, value: found.setdefault(name, []).append(value)
    if hub.metadata("a")["memory_state"] != "loaded":
        hub.act("a", "load")
    hub.act("a", "unload")
    wait()
    note("load", hub.act("a", "load"))
    hub.act("a", "unload")
    wait()
    note("first token of a request that loads", hub.first_token("a"))
    wait()
    note("swap in a full group", hub.first_token("b"))
    if has_spares:
        note("making of a spare", hub.spare())
    hub.act("b", "unload")


def alike(bare, warm):
    """What two loaded workers hold, say and how fast: with and without."""
    rates, held, said = {}, {}, {}
    for name, hub in (("bare", bare), ("spare", warm)):
        if hub is warm:
            hub.spare()
        hub.act("a", "load")
        for _ in range(10):
            said[name] = hub.answer("a")
    for _ in range(ROUNDS):
        for name, hub in (("bare", bare), ("spare", warm)):
            _, moments = hub.stream("a")
            rates.setdefault(name, []).append((len(moments) - 1) / (moments[-1] - moments[0]))
    time.sleep(12)
    for name, hub in (("bare", bare), ("spare", warm)):
        held[name] = hub.metadata("a")["memory_bytes"]
    print(f"same answer to the same seed: {said['bare'] == said['spare']}")
    rate = {name: statistics.median(values) for name, values in rates.items()}
    print(f"tokens a second: bare {rate['bare']:.0f}, spare {rate['spare']:.0f}, ratio {rate['spare'] / rate['bare']:.3f}")
    more = held["spare"] - held["bare"]
    print(f"bytes held: bare {held['bare'] >> 20} MB, spare {held['spare'] >> 20} MB, {more / held['bare']:+.1%}, {more >> 20} MB more")


def beside(warm):
    """The gaps of a stream while a spare is made, against those while none is."""
    warm.act("c", "load")
    quiet, busy = [], []
    for _ in range(3):
        warm.spare()
        streams = []
        client = threading.Thread(target=lambda: streams.extend(warm.stream("c", 6000)[1]))
        warm.act("b", "load")
        client.start()
        made = None
        while client.is_alive():
            spares = warm.call("GET", "/hub/status")["spares"]
            now = time.perf_counter()
            if spares and not spares[0]["ready"] and made is None:
                made = [now, float("inf")]
            if made and made[1] == float("inf") and spares and spares[0]["ready"]:
                made[1] = now
            time.sleep(0.02)
        client.join()
        if made:
            busy += gaps(streams, *made)
            quiet += gaps(streams, 0, made[0]) + gaps(streams, made[1])
        warm.act("b", "unload")
    if len(busy) > 100 and len(quiet) > 100:
        print(f"p99 gap of a stream: {p99(quiet) * 1e3:.1f} ms, while a spare is made {p99(busy) * 1e3:.1f} ms, ratio {p99(busy) / p99(quiet):.2f} ({len(quiet)} and {len(busy)} gaps)")
    else:
        print(f"p99 gap of a stream: too few gaps ({len(quiet)} and {len(busy)})")


def main():
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(("a", "b", "c")):
            command = [f"{VENV}/bin/python", MAKE_MODEL, f"{folder}/{name}", "--seed", str(seed)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        bare, warm = Hub(folder, 27200, 0), Hub(folder, 27240, 1)
        try:
            found = {"bare": {}, "spare": {}}
            for model in ("a", "b"):
                warm.act(model, "load")
                warm.first_token(model)
            for number in range(ROUNDS):
                turn(bare, False, found["bare"])
                turn(warm, True, found["spare"])
                last = {kind: {name: round(values[-1], 3) for name, values in of.items()} for kind, of in found.items()}
                print(f"round {number + 1}: {last}", flush=True)
            bare_load = statistics.median(found["bare"]["load"])
            for name, values in found["spare"].items():
                spare = statistics.median(values)
                against = statistics.median(found["bare"].get(name, [bare_load]))
                print(f"{name}: bare {against:.3f} s, spare {spare:.3f} s, ratio {spare / against:.3f}")
            alike(bare, warm)
            beside(warm)
        finally:
            bare.end()
            warm.end()


if __name__ == "__main__":
    main()
