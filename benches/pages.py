#!/usr/bin/env python3
"""What open status pages cost, and how soon each shows a change: 20 simulated models that answer streams all the time,
50 pages that listen to /hub/events. Linux, for the processor time of the hub.

usage: pages.py HUB [PAGES] [ROUNDS] [SECONDS]
HUB is the hub's program, PAGES 50, ROUNDS 5 and SECONDS 10 by default. Each round measures the hub without pages and
then with them; the medians are compared. Then a model that nobody asks is loaded and unloaded, and every page that is
told of it says when.
"""

import http.client
import json
import os
import pathlib
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HUB = os.path.abspath(sys.argv[1])
PAGES, ROUNDS, SECONDS = (int(sys.argv[at]) if len(sys.argv) > at else default for at, default in ((2, 50), (3, 5), (4, 10)))
PORT, MODELS = 27280, 20
CHANGES = 20


def post(path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request("POST", path, json.dumps(body or {}), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text


class Sockets:
    """Connections that one thread reads."""

    def __init__(self):
        self.selector, self.ended = selectors.DefaultSelector(), False
        self.thread = threading.Thread(target=self.run)

    def open(self, request, read):
        connection = socket.create_connection(("127.0.0.1", PORT))
        connection.sendall(request)
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_READ, read)

    def run(self):
        while not self.ended:
            for key, _ in self.selector.select(0.1):
                data = key.fileobj.recv(1 << 20)
                if not data:
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()
                key.data(data)

    def end(self):
        self.ended = True
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()


class Load(Sockets):
    """A stream to each model; when it is over, the next."""

    def __init__(self):
        super().__init__()
        self.streams = 0
        for number in range(MODELS):
            self.ask(number)
        self.thread.start()

    def ask(self, number):
        body = json.dumps({"model": f"m{number}", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{PORT}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"

        def read(data):
            if not data and not self.ended:
                self.streams += 1
                self.ask(number)

        self.open(head.encode() + body, read)


class Pages(Sockets):
    """Pages that look for the state of the model `still`."""

    def __init__(self, count):
        super().__init__()
        self.bytes, self.events = 0, 0
        self.states = [None] * count
        self.seen = [0.0] * count
        for page in range(count):
            self.listen(page)
        self.thread.start()
        wait("the pages", lambda: all(self.states))

    def listen(self, page):
        left = b""

        def read(data):
            nonlocal left
            assert data, "the hub has ended a page's events"
            self.bytes += len(data)
            left += data
            *events, left = left.split(b"\n\n")
            now = time.perf_counter()
            for event in events:
                self.events += 1
                at = event.find(b'"id":"still"')
                at = event.find(b'"memory_state":"', at) if at >= 0 else -1
                if at >= 0:
                    state = event[at:].split(b'"', 4)[3].decode()
                    if state != self.states[page]:
                        self.states[page], self.seen[page] = state, now

        self.open(f"GET /hub/events HTTP/1.1\r\nhost: 127.0.0.1:{PORT}\r\n\r\n".encode(), read)


def wait(what, holds):
    limit = time.monotonic() + 60
    while not holds():
        if time.monotonic() > limit:
            sys.exit(f"waited in vain: {what}")
        time.sleep(0.01)


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share_of_a_core(pid):
    """Over the next seconds, in percent."""
    begun, used = time.perf_counter(), processor_seconds(pid)
    time.sleep(SECONDS)
    return (processor_seconds(pid) - used) / (time.perf_counter() - begun) * 100


def configuration():
    worker = json.dumps([HUB, "stub-worker", "--dialect", "jit", "--tokens", "100", "--token-ms", "20"])
    names = [f"m{number}" for number in range(MODELS)] + ["still"]
    models = "".join(f"  - {{name: {name}, model_path: org/{name}, jit_enabled: true, default: true}}\n" for name in names)
    return (
        f"host: 127.0.0.1\nport: {PORT}\nmodel_starting_port: {PORT + 1}\nlog_path: ./logs\nspares: 0\n"
        f"worker_command: {worker}\nmodels:\n{models}"
    )


def delays():
    """Milliseconds from the answer of a verb until each page has its outcome."""
    pages, found = Pages(PAGES), []
    for number in range(CHANGES):
        verb, state = (("load", "loaded"), ("unload", "unloaded"))[number % 2]
        post(f"/hub/models/still/{verb}")
        done = time.perf_counter()
        wait(f"all pages to show `{state}`", lambda: all(seen == state for seen in pages.states))
        found += [max(seen - done, 0) * 1e3 for seen in pages.seen]
        time.sleep(0.237)
    pages.end()
    return sorted(found)


def measure(pid):
    load = Load()
    wait("all models to answer", lambda: load.streams > 2 * MODELS)
    bare, listened, sizes = [], [], []
    for number in range(ROUNDS):
        bare.append(share_of_a_core(pid))
        pages = Pages(PAGES)
        # The first events have everything, and are not what open pages cost.
        time.sleep(1)
        before = pages.bytes, pages.events
        listened.append(share_of_a_core(pid))
        sizes.append(((pages.bytes - before[0]) / PAGES / SECONDS, (pages.events - before[1]) / PAGES / SECONDS))
        pages.end()
        print(f"round {number + 1}: {bare[-1]:.2f} % of a core without pages, {listened[-1]:.2f} % with {PAGES}", flush=True)
    told = delays()
    load.end()
    cost = statistics.median(after - before for before, after in zip(bare, listened))
    size, events = (statistics.median(one) for one in zip(*sizes))
    print(f"{PAGES} pages, {MODELS} models with a stream each: {cost:.2f} % of a core for the pages (limit: 1 %)")
    print(f"to each page {size / 1024:.1f} KB and {events:.1f} events a second")
    print(f"a change shows after {statistics.median(told):.0f} ms, p99 {told[int(len(told) * 0.99)]:.0f} ms, at most {told[-1]:.0f} ms (limit: 200 ms)")


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "hub.yaml"
        path.write_text(configuration())
        environment = {**os.environ, "HOME": folder}
        process = subprocess.Popen([HUB, "--config", str(path), "serve"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        try:
            def answers():
                try:
                    socket.create_connection(("127.0.0.1", PORT)).close()
                    return True
                except OSError:
                    return False

            wait("the hub", answers)
            measure(process.pid)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
