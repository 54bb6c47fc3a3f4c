#!/usr/bin/env python3
"""Writes a tiny Llama model with random weights as one GGUF file, with the standard library alone.

Usage: make_tiny_gguf.py FILE [--seed 0] [--layers 2]
It says letters and spaces, one a token, and never comes to an end by itself. Each byte of a prompt is a token.
"""

import argparse
import random
import struct
from array import array
from pathlib import Path

WIDTH, HEADS, CONTEXT = 64, 2, 32768
ALIGNMENT = 32
U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
NORMAL, CONTROL = 1, 3

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(of):
    """A value with its type before it."""
    if isinstance(of, str):
        return struct.pack("<I", STRING) + text(of)
    if isinstance(of, float):
        return struct.pack("<If", F32, of)
    if isinstance(of, int):
        return struct.pack("<II", U32, of)
    if isinstance(of[0], str):
        return struct.pack("<IIQ", ARRAY, STRING, len(of)) + b"".join(map(text, of))
    kind, code = (F32, "f") if isinstance(of[0], float) else (I32, "i")
    return struct.pack(f"<IIQ{len(of)}{code}", ARRAY, kind, len(of), *of)


def write(path, facts, tensors):
    """Writes the file; each tensor is its shape, the width first, and its numbers."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(facts))
    for key, fact in facts.items():
        head += text(key) + value(fact)
    data = bytearray()
    for name, (shape, numbers) in tensors.items():
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += numbers.tobytes()
        data += bytes(-len(data) % ALIGNMENT)
    Path(path).write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)


class Weights(dict):
    """The tensors of a model."""

    def __init__(self, seed):
        super().__init__()
        self.random = random.Random(seed)

    def of(self, name, *shape, spread=0.05):
        count = 1
        for side in shape:
            count *= side
        numbers = array("f", (self.random.gauss(0, spread) for _ in range(count)))
        self[name + ".weight"] = (shape, numbers)
        return numbers

    def flat(self, name, number, width=WIDTH):
        self[name] = ((width,), array("f", [number] * width))


def byte_letters():
    """What stands for each byte in a vocabulary of bytes, as GPT-2 has it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def llama(weights, layers):
    letters = byte_letters()
    # A file with no merge at all is refused.
    ends = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*letters, letters[32] + "a", *ends]
    kinds = [NORMAL] * (len(tokens) - len(ends)) + [CONTROL] * len(ends)

    numbers = weights.of("token_embd", WIDTH, len(tokens), spread=1)
    out = weights.of("output", WIDTH, len(tokens), spread=1)
    # The first number is as good as the same for every text: by it all but letters and spaces are never said.
    for token, name in enumerate(tokens):
        numbers[token * WIDTH] = 8
        is_said = token < 256 and (name.isascii() and name.isalpha() or token == 32)
        out[token * WIDTH] = 0 if is_said else -99
    weights.flat("output_norm.weight", 1)
    for layer in range(layers):
        name = f"blk.{layer}."
        for part in ("attn_norm", "ffn_norm"):
            weights.flat(name + part + ".weight", 1)
        for part in ("q", "k", "v", "output"):
            weights.of(f"{name}attn_{part}", WIDTH, WIDTH)
        weights.of(name + "ffn_gate", WIDTH, WIDTH * 2)
        weights.of(name + "ffn_up", WIDTH, WIDTH * 2)
        weights.of(name + "ffn_down", WIDTH * 2, WIDTH)
    end = len(tokens) - 1
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.alignment": ALIGNMENT,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": layers,
        "llama.feed_forward_length": WIDTH * 2,
        "llama.attention.head_count": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [letters[32] + " a"],
        "tokenizer.ggml.bos_token_id": end - 2,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.chat_template": CHAT,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()
    weights = Weights(options.seed)
    facts = llama(weights, options.layers)
    write(options.file, facts, weights)


if __name__ == "__main__":
    main()
