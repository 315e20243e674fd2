#!/usr/bin/env python3
"""Writes a byte-level BPE tokenizer, as the `tokenizers` library saves it, as a GGUF file without tensors.

usage: vocabulary.py TOKENIZER.json OUT.gguf NAME

infini_model_create takes such a file as its "tokenizer", and infini_model_open opens it as a tokenizer alone. Each digit
must be a token of its own and the rest be cut as GPT-2 does: pre-tokenizer `smollm`.
"""
import json
import struct
import sys

UINT32, INT32, BOOL, STRING, ARRAY = 4, 5, 7, 8, 9
NORMAL, CONTROL = 1, 3


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def field(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def array(kind, values):
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def main(source, target, name):
    with open(source, encoding="utf-8") as file:
        tokenizer = json.load(file)
    steps = tokenizer["pre_tokenizer"]["pretokenizers"]
    if [step["type"] for step in steps] != ["Digits", "ByteLevel"] or not steps[0]["individual_digits"]:
        sys.exit(f"{source}: not a byte-level tokenizer that keeps digits apart")
    ids = tokenizer["model"]["vocab"]
    tokens = sorted(ids, key=ids.get)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        sys.exit(f"{source}: the ids have gaps")
    control = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    end = ids["<|endoftext|>"]
    types = [CONTROL if token in control else NORMAL for token in range(len(tokens))]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    fields = [
        field("general.architecture", STRING, text("llama")),
        field("general.name", STRING, text(name)),
        field("tokenizer.ggml.model", STRING, text("gpt2")),
        field("tokenizer.ggml.pre", STRING, text("smollm")),
        field("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(token) for token in tokens])),
        field("tokenizer.ggml.token_type", ARRAY, array(INT32, [struct.pack("<i", kind) for kind in types])),
        field("tokenizer.ggml.merges", ARRAY, array(STRING, [text(merge) for merge in merges])),
        field("tokenizer.ggml.bos_token_id", UINT32, struct.pack("<I", end)),
        field("tokenizer.ggml.eos_token_id", UINT32, struct.pack("<I", end)),
        field("tokenizer.ggml.add_bos_token", BOOL, b"\0"),
    ]
    with open(target, "wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(fields)) + b"".join(fields))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
