"""Stand-ins for three programs: `engine_programs.py PROGRAM ARGUMENT...`, with the standard library alone.

What they do is what the sources say of `llama-server` of llama.cpp, `mlx_vlm.server` of mlx-vlm and `vllm-mlx serve`:
the options, when the port opens, `/health`, chats and messages whole and streamed, what other names of a model do,
SIGTERM, and the exit codes. They generate the same word as often as `max_tokens` says.

A model whose path has `broken` cannot be loaded. STANDIN_LOAD is the seconds that a load takes.
STUB_RECORD names a file for a line of JSON at each start and each request.
"""

import argparse
import http.server
import json
import os
import signal
import sys
import threading
import time

WORD, BETWEEN_WORDS = "word ", 0.02


def note(event, **more):
    line = json.dumps({"event": event, "at": time.time(), "pid": os.getpid(), **more}) + "\n"
    with open(os.environ["STUB_RECORD"], "a", encoding="utf-8") as record:
        record.write(line)


class Program:
    """One of the three."""

    listens_while_loading = False
    wrong_argument = 2
    # uvicorn dies by the signal that it was ended with.
    dies_by_sigterm = True
    # Paths that it knows and does not serve.
    unserved = ()
    # Told to end, it answers what it was asked before.
    answers_to_the_end = True

    def __init__(self):
        self.loaded = None
        self.path, self.name = None, None

    def parse(self, arguments):
        parser = Parser(prog=self.program, formatter_class=Wide)
        parser.wrong_argument = self.wrong_argument
        self.add_options(parser)
        for flag in self.switches.split():
            parser.add_argument(flag, action="store_true")
        for flag in self.values.split():
            parser.add_argument(flag)
        return parser.parse_args(arguments)

    def load(self):
        time.sleep(float(os.environ.get("STANDIN_LOAD", "0")))
        if "broken" in self.path:
            print(self.cannot_load.format(path=self.path), file=sys.stderr, flush=True)
            sys.exit(self.failed_load)
        self.loaded = self.path

    def refuses(self, _body):
        """The status and body for a request with that body, or nothing."""
        return None


class LlamaServer(Program):
    """It listens at once, and answers all with 503 until its model is loaded; any name is its model's.

    Told to end, it says nothing more, and waits until its clients have gone.
    """

    program = "llama-server"
    listens_while_loading = True
    dies_by_sigterm = False
    wrong_argument = 1
    failed_load = 1
    answers_to_the_end = False
    cannot_load = "srv    load_model: failed to load model, '{path}'\nsrv  llama_server: exiting due to model loading error"
    switches = "--jinja --kv-unified"
    values = (
        "--host --port --threads --batch-size --ubatch-size --flash-attn --cache-type-k --cache-type-v --mmproj --lora"
        " --chat-template --chat-template-file --chat-template-kwargs --reasoning-format --predict --seed --temp --top-k"
        " --top-p --min-p --presence-penalty --repeat-penalty --parallel --model-draft --pooling"
    )

    def add_options(self, parser):
        parser.add_argument("-m", "--model")
        parser.add_argument("-hf", "-hfr", "--hf-repo")
        parser.add_argument("-a", "--alias")
        parser.add_argument("-c", "--ctx-size")
        parser.add_argument("-ngl", "--gpu-layers", "--n-gpu-layers")
        parser.add_argument("--embedding", "--embeddings", action="store_true")
        parser.add_argument("--rerank", "--reranking", dest="reranking", action="store_true")

    def take(self, options):
        self.path = options.model or options.hf_repo
        self.name = options.alias or self.path
        # It has the routes of all, and refuses those that it was not started for.
        self.unserved = [
            path
            for path, started in (("/v1/embeddings", options.embedding), ("/v1/rerank", options.reranking))
            if not started
        ]

    def refuses(self, _body):
        if self.loaded:
            return None
        return 503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}

    def health(self):
        return {"status": "ok"}

    def called(self, _asked):
        return self.name


class MlxVlm(Program):
    """It listens when its model is loaded, and drops it for whatever a request names, a model or an adapter."""

    program = "mlx_vlm.server"
    failed_load = 3
    cannot_load = "fastapi.exceptions.HTTPException: 400: {path}\nERROR:    Application startup failed. Exiting."
    switches = "--trust-remote-code --enable-thinking --reload"
    values = (
        "--host --port --model --image-model --embedding-model --adapter-path --vision-cache-size --prefill-step-size"
        " --max-tokens --thinking-budget --thinking-start-token --thinking-end-token --kv-bits --kv-quant-scheme"
        " --kv-group-size --max-kv-size --quantized-kv-start --draft-model --draft-kind --draft-block-size"
        " --max-num-seqs --top-logprobs-k --api-key --log-level"
    )

    def add_options(self, parser):
        pass

    def take(self, options):
        self.path = self.name = options.model

    def refuses(self, body):
        asked, adapter = body.get("model"), body.get("adapter_path")
        if asked == self.loaded and not adapter:
            return None
        self.loaded = None
        note("dropped", model=asked, adapter=adapter)
        return 500, {"detail": f"Failed to load model: {asked}"}

    def health(self):
        return {"status": "healthy", "loaded_model": self.loaded, "loaded_adapter": None, "loaded_context_size": 2048}

    def called(self, asked):
        return asked


class VllmMlx(Program):
    """It listens when its model is loaded, and knows that one by its name alone."""

    program = "vllm-mlx"
    failed_load = 1
    cannot_load = "Traceback (most recent call last):\nFileNotFoundError: No safetensors found in {path}"
    switches = (
        "--continuous-batching --disable-prefix-cache --kv-cache-quantization --use-paged-cache --enable-mtp --mllm"
        " --enable-auto-tool-choice --trust-remote-code --lazy-load-model"
    )
    values = (
        "--served-model-name --host --port --max-num-seqs --prefill-batch-size --completion-batch-size"
        " --prefill-step-size --cache-memory-mb --cache-memory-percent --kv-cache-quantization-bits --max-kv-size"
        " --max-tokens --max-request-tokens --tool-call-parser --reasoning-parser --timeout --mcp-config"
        " --default-temperature --default-top-p --default-top-k --default-min-p --default-chat-template-kwargs --api-key"
    )

    def add_options(self, parser):
        parser.add_argument("command", choices=["serve"])
        parser.add_argument("model")

    def take(self, options):
        self.path, self.name = options.model, options.served_model_name or options.model

    def refuses(self, body):
        asked = body.get("model")
        if asked == self.name:
            return None
        return 404, {"detail": f"The model `{asked}` does not exist. Available model: `{self.name}`"}

    def health(self):
        return {
            "status": "healthy", "model_loaded": True, "model_name": self.name, "available_models": [self.name],
            "model_type": "llm", "engine_type": "simple", "mcp": None,
        }

    def called(self, _asked):
        return self.name


class Wide(argparse.HelpFormatter):
    def __init__(self, prog):
        super().__init__(prog, width=120)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(self.wrong_argument, f"{self.prog}: error: {message}\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        program = self.server.program
        refused = program.listens_while_loading and program.refuses(None)
        if refused:
            self.answer(*refused)
        elif self.path == "/health":
            self.answer(200, program.health())
        else:
            self.answer(404, {"detail": "Not Found"})

    def do_POST(self):
        program = self.server.program
        body = json.loads(self.read_body())
        note("request", path=self.path, body=body)
        asked = body.get("model")
        refused = program.refuses(body)
        kinds = {"/v1/chat/completions": Chat, "/v1/messages": Message}
        if refused:
            return self.answer(*refused)
        if self.path in program.unserved:
            return self.answer(501, {"error": {"message": "This server does not support it.", "code": 501}})
        if self.path not in kinds:
            return self.answer(404, {"detail": "Not Found"})
        with self.server.asked:
            self.generate(kinds[self.path](program.called(asked)), body)

    def read_body(self):
        """A whole body, or one that comes in chunks, as a part of it does that passes while it is sent."""
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def generate(self, kind, body):
        words = body.get("max_tokens") or 3
        if not body.get("stream"):
            return self.answer(200, kind.whole(words))
        self.head(200, "text/event-stream", ("transfer-encoding", "chunked"))
        try:
            for event in kind.events(words):
                if self.server.ends and not self.server.program.answers_to_the_end:
                    self.rfile.read(1)
                data = event.encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            # The client has gone.
            self.close_connection = True

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.head(status, "application/json", ("content-length", str(len(body))))
        self.wfile.write(body)

    def head(self, status, kind, length):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header(*length)
        self.end_headers()

    def log_message(self, *_):
        pass


class Chat:
    def __init__(self, model):
        self.same = {"id": "chatcmpl-1", "created": int(time.time()), "model": model}

    def whole(self, words):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WORD * words}}
        usage = {"prompt_tokens": 2, "completion_tokens": words, "total_tokens": 2 + words}
        return {**self.same, "object": "chat.completion", "choices": [choice], "usage": usage}

    def events(self, words):
        yield self.chunk({"role": "assistant", "content": None}, None)
        for _ in range(words):
            yield self.chunk({"content": WORD}, None)
            time.sleep(BETWEEN_WORDS)
        yield self.chunk({}, "stop")
        yield "data: [DONE]\n\n"

    def chunk(self, delta, reason):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return "data: " + json.dumps({**self.same, "object": "chat.completion.chunk", "choices": [choice]}) + "\n\n"


class Message:
    def __init__(self, model):
        self.same = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}

    def whole(self, words):
        usage = {"input_tokens": 2, "output_tokens": words}
        text = {"type": "text", "text": WORD * words}
        return {**self.same, "content": [text], "stop_reason": "end_turn", "usage": usage}

    def events(self, words):
        usage = {"input_tokens": 2, "output_tokens": 0}
        begun = {**self.same, "content": [], "stop_reason": None, "usage": usage}
        yield self.event("message_start", message=begun)
        yield self.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for _ in range(words):
            yield self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": WORD})
            time.sleep(BETWEEN_WORDS)
        yield self.event("content_block_stop", index=0)
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        yield self.event("message_delta", delta=delta, usage={"output_tokens": words})
        yield self.event("message_stop")

    @staticmethod
    def event(kind, **more):
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"


class Asked:
    """The requests that are being answered; no others are waited for at the end, such as connections that are kept."""

    def __init__(self):
        self.count, self.changed = 0, threading.Condition()

    def __enter__(self):
        self.add(1)

    def __exit__(self, *_):
        self.add(-1)

    def add(self, more):
        with self.changed:
            self.count += more
            self.changed.notify_all()

    def wait(self):
        with self.changed:
            self.changed.wait_for(lambda: self.count == 0)


def main():
    made = {program.program: program for program in (LlamaServer, MlxVlm, VllmMlx)}
    program = made[sys.argv[1]]()
    options = program.parse(sys.argv[2:])
    program.take(options)
    note("start", args=sys.argv[1:], model=program.name)
    address = (options.host, int(options.port))
    if not program.listens_while_loading:
        program.load()
    with http.server.ThreadingHTTPServer(address, Handler) as server:
        server.program, server.asked, server.ends = program, Asked(), False
        serving = threading.Thread(target=server.serve_forever)
        serving.daemon = True
        serving.start()
        if program.listens_while_loading:
            program.load()

        def end(*_):
            server.ends = True
            # It waits for the other thread.
            server.shutdown()

        signal.signal(signal.SIGTERM, end)
        serving.join()
        server.asked.wait()
    note("exit", model=program.name)
    if program.dies_by_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
