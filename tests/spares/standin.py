"""A worker in Python, of the standard library alone: a server and a model process, as the real worker has them.

The test writes the script that imports it, as pip does, and sets its knobs in the environment:
STANDIN_IMPORT  seconds that each of the two processes needs to import its modules
STANDIN_FAILS   `server`: it ends before it is ready; `model`: its model process does
STANDIN_SETS    NAME=VALUE: the server sets that variable before it spawns the model process
STANDIN_ALONE   there is no model process
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
        "descriptors": descriptors(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "unbuffered": sys.stdout.line_buffering or sys.stdout.write_through,
    }


def descriptors():
    """Open ones; the one of the look itself is not counted."""
    return len(os.listdir("/dev/fd")) - 1


def model_process(requests, answers):
    import standin_model

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("model process", standin_model.NAME, flush=True)
    if os.environ.get("STANDIN_FAILS") == "model":
        os._exit(5)
    answers.put("ready")
    while requests.get() is not None:
        answers.put(facts())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"model_id": self.server.model, "model_status": "initialized (1 model(s))"})

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


def launch(options):
    print("server process", standin_server.NAME, flush=True)
    if os.environ.get("STANDIN_FAILS") == "server" or "fails" in options.model_path:
        print("no model there", file=sys.stderr, flush=True)
        return 3
    name, _, value = os.environ.get("STANDIN_SETS", "").partition("=")
    if name:
        os.environ[name] = value
    ask = lambda: None
    if "STANDIN_ALONE" not in os.environ:
        context = multiprocessing.get_context("spawn")
        requests, answers = context.Queue(), context.Queue()
        model = context.Process(target=model_process, args=(requests, answers), daemon=True)
        model.start()
        while True:
            try:
                answers.get(timeout=0.2)
                break
            except Exception:
                if not model.is_alive():
                    print("the model process has ended", file=sys.stderr, flush=True)
                    return 4

        def ask():
            requests.put("facts")
            return answers.get(timeout=20)

    server = http.server.ThreadingHTTPServer((options.host, options.port), Handler)
    server.daemon_threads, server.lock = True, threading.Lock()
    server.model, server.ask = options.served_model_name or options.model_path, ask
    server.serve_forever()
    return 0


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    launching = commands.add_parser("launch")
    for flag in FLAGS:
        launching.add_argument(flag, type=int if flag == "--port" else str)
    return launch(parser.parse_args())
