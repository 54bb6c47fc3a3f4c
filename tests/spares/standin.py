"""A worker in Python, of the standard library alone: a server and a model process, as the real worker has them.

The test writes the script that imports it, as pip does, and sets its knobs in the environment:
STANDIN_IMPORT  seconds that each of the two processes needs to import its modules
STANDIN_SETS    NAME=VALUE: the server sets that variable before it spawns the model process
STANDIN_ALONE   there is no model process
STANDIN_JIT     it stays up unloaded with `--jit`
STANDIN_LINGERS the server ends on SIGTERM once that file is gone
STANDIN_STRANGE `raises` or `ends`: it does so where its modules were imported by a spare

A model whose path has `fails` makes the server end before it is ready, one with `dies` the model process, and one with
`killed` has the model process killed.
"""

import argparse
import http.server
import json
import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import tempfile
import threading
import time

import standin_server

FLAGS = ("--model-path", "--model-type", "--host", "--port", "--served-model-name", "--log-level")


def facts():
    """What a process can say about itself."""
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "argv": sys.argv,
        "version": list(sys.version_info[:2]),
        "folder": os.getcwd(),
        "began_in": multiprocessing.process.ORIGINAL_DIR,
        "temporary": tempfile.gettempdir(),
        "environment": dict(os.environ),
        "main": sys.modules["__main__"].__dict__.get("__file__"),
        "name": sys.modules["__main__"].__name__,
        "path": sys.path[0],
        "threads": threading.active_count(),
        "saw": getattr(standin_server, "SAW", None),
        "descriptors": descriptors(),
        "imported_at": getattr(standin_server, "IMPORTED_AT", None),
        "priority": getattr(standin_server, "priority", int)(),
        "unbuffered": sys.stdout.line_buffering or sys.stdout.write_through,
    }


def descriptors():
    """Open ones; the one of the look itself is not counted."""
    return len(os.listdir("/dev/fd")) - 1


def model_process(path, requests, answers):
    import standin_model

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("model process", standin_model.NAME, flush=True)
    if "dies" in path:
        raise MemoryError("no room for the model")
    if "killed" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    answers.put("ready")
    while requests.get() is not None:
        answers.put(facts())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/v1/queue/stats":
            with self.server.lock:
                self.server.load()
        status = "initialized (1 model(s))" if self.server.ask else "unloaded"
        self.answer({"model_id": self.server.model, "model_status": status})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        with self.server.lock:
            told = {"server": facts(), "model": self.server.ask()}
        message = {"role": "assistant", "content": json.dumps(told)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.answer({"object": "chat.completion", "model": self.server.model, "choices": [choice]})

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, options):
        self.options, self.lock, self.ask = options, threading.Lock(), None
        self.model = options.served_model_name or options.model_path
        super().__init__((options.host, options.port), Handler, bind_and_activate=False)

    def load(self):
        """Has a model process, if there is to be one."""
        if self.ask or "STANDIN_ALONE" in os.environ:
            self.ask = self.ask or (lambda: None)
            return
        context = multiprocessing.get_context("spawn")
        requests, answers = context.Queue(), context.Queue()
        names = (self.options.model_path, requests, answers)
        model = context.Process(target=model_process, args=names, daemon=True)
        model.start()
        while True:
            try:
                answers.get(timeout=0.2)
                break
            except Exception:
                if not model.is_alive():
                    print("the model process has ended", file=sys.stderr, flush=True)
                    sys.exit(4)

        def ask():
            requests.put("facts")
            return answers.get(timeout=20)

        self.ask = ask


def linger(*_):
    while os.path.exists(os.environ["STANDIN_LINGERS"]):
        time.sleep(0.02)
    sys.exit(0)


def launch(options):
    print("server process", standin_server.NAME, flush=True)
    if "fails" in options.model_path:
        print("no model there", file=sys.stderr, flush=True)
        return 3
    strange = os.environ.get("STANDIN_STRANGE")
    if strange and standin_server.FOLDER != os.getcwd():
        if strange == "raises":
            raise AttributeError("it was imported elsewhere")
        return 6
    name, _, value = os.environ.get("STANDIN_SETS", "").partition("=")
    if name:
        os.environ[name] = value
    if "STANDIN_LINGERS" in os.environ:
        signal.signal(signal.SIGTERM, linger)
    server = Server(options)
    if not getattr(options, "jit", False):
        server.load()
    server.server_bind()
    server.server_activate()
    server.serve_forever()
    return 0


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    launching = commands.add_parser("launch")
    for flag in FLAGS:
        launching.add_argument(flag, type=int if flag == "--port" else str)
    if "STANDIN_JIT" in os.environ:
        launching.add_argument("--jit", action="store_true")
    return launch(parser.parse_args())
