"""The small model with a chat template, which it does not have by itself: chat_model.py MODEL FILE."""
import pathlib
import struct
import sys

TEMPLATE = ("{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}")


def write(model, file):
    text = lambda value: struct.pack('<Q', len(value)) + value.encode()
    key = text('tokenizer.chat_template') + struct.pack('<I', 8)
    template = TEMPLATE + ' ' * (-(len(key) + 8 + len(TEMPLATE)) % 32)  # so that the weights stay where they are aligned
    data = pathlib.Path(model).read_bytes()
    count, = struct.unpack_from('<Q', data, 16)
    pathlib.Path(file).write_bytes(data[:16] + struct.pack('<Q', count + 1) + key + text(template) + data[24:])


if __name__ == '__main__':
    write(*sys.argv[1:])
