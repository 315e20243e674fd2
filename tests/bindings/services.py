#!/usr/bin/env python3
"""Talks HTTP to the sample services: services.py MODEL NAME=COMMAND... where each command takes a model and an address.

Every promise of samples/SERVICES.md is checked of each service, with concurrent clients, clients that leave, stall and lie, and
a restart in between; then every service restores what every other one saved."""
import contextlib
import json
import os
import pathlib
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import chat_model
import many
import operators
import v1
from stores import Stores
from service import BODY_LIMIT, MODEL, SOON, TOKEN, Service, answer_of, ends_cancelled, rest_of, was_cancelled

TEXT = 'One day 😀 Lily met a dog. ' * 200
SPEAK_V1 = ('java', 'csharp', 'go')
ENDLESS = {'max_tokens': -1, 'ignore_end': True}
SILENT = ENDLESS | {'logit_bias': '1:10000'}  # always <s>, which writes no text


def check_requests(service):
    """Tokens, paths, options and bodies that are refused, and those that are not."""
    service.refused(401, 'UNAUTHORIZED', 'POST', '/sessions', token=None)
    service.refused(401, 'UNAUTHORIZED', 'POST', '/sessions', token='wrong')
    service.refused(401, 'UNAUTHORIZED', 'POST', '/sessions', token=TOKEN + 'x')
    service.refused(401, 'UNAUTHORIZED', 'GET', '/model', token=None)
    for call in ('/feed', '/generate', '/chat', '/cancel'):
        service.refused(404, 'NOT_FOUND', 'POST', '/sessions/0123456789abcdef' + call, b'x')
    service.refused(404, 'NOT_FOUND', 'GET', '/elsewhere')
    service.refused(405, 'METHOD_NOT_ALLOWED', 'DELETE', '/sessions')
    service.refused(405, 'METHOD_NOT_ALLOWED', 'POST', '/model')
    service.refused(400, 'UNKNOWN_OPTION', 'POST', '/sessions', b'{"no such": 1}')
    cores = len(os.sched_getaffinity(0))
    nested = b'[' * 30000
    for body in (b'not JSON', b'[1]', b'1', b'null', b'{"max_tokens": 1', b'{"max_tokens": [1]}', b'{"max_tokens": null}',
                 b'{"max_tokens": {}}', b'{"max_tokens": 99999999999999999999}', b'{"max_tokens": 1e999}', b'{"seed": null}',
                 b'{"compute": "f32"}', b'{"memory": "open"}', b'{"segment": 64}',
                 b'\xff\xfe', b'{"stop": "\xff"}', b'{"\xc3": 1}', b'{"max_tokens": 1} x', b'{} {}', b'{max_tokens: 1}',
                 b"{'max_tokens': 1}", b'{"max_tokens": 1,}', b'{"temperature": NaN}', b'{"temperature": "hot"}', b'{/* */}',
                 b'{"threads": ' + nested, b'{"stop": ' + nested + b']' * 30000 + b'}', b'{"stop": 3}', b'{"stop": null}',
                 b'{"stop": [3]}', b'{"stop": [["a"]]}', b'{"stop": [null]}', b'{"stop": {"a": "b"}}', b'{"threads": -7}',
                 b'{"threads": 1024}', b'{"threads": %d}' % (cores + 1), b'{"chunk": 513}', b'{"checkpoints": 17}',
                 b'{"compress": 10}'):
        service.refused(400, 'INVALID_ARGUMENT', 'POST', '/sessions', body)
    service.refused(413, 'TOO_LARGE', 'POST', '/sessions', b'{"stop": "' + b'x' * (1 << 17) + b'"}')
    assert service.sessions() == {}
    for body in (None, b' \n', b'{}',
                 b'\n{"ignore_end": true, "deterministic": false, "stop": ["a", "b\\nc"], "temperature": 0.5} \r\n',
                 b'{"threads": 1, "chunk": 512, "checkpoints": 16, "compress": 9, "unknown_text": "replace"}'):
        session = '/sessions/' + json.loads(service.call('POST', '/sessions', body, expect=201))['id']
        assert service.sessions() == {session: (0, False)}
        service.call('DELETE', session, expect=204)
    session = service.session()
    service.refused(405, 'METHOD_NOT_ALLOWED', 'PUT', session + '/feed', b'x')
    service.refused(405, 'METHOD_NOT_ALLOWED', 'GET', session + '/cancel')
    service.refused(409, 'STATE', 'POST', session + '/generate')
    service.refused(400, 'INVALID_ARGUMENT', 'POST', session + '/feed', b'abc\xff')
    service.too_large('POST', session + '/feed')
    service.too_large('PUT', session + '/snapshot')
    try:  # a body that does not tell its length; the service may hang up while we still send
        service.refused(413, 'TOO_LARGE', 'PUT', session + '/snapshot', (bytes(65536) for _ in range(BODY_LIMIT // 65536 + 1)))
    except ConnectionError:
        pass
    service.call('DELETE', session, expect=204)
    service.refused(404, 'NOT_FOUND', 'DELETE', session)
    made = [service.session() for _ in range(12)]
    assert set(service.sessions()) == set(made)
    service.refused(429, 'TOO_MANY_SESSIONS', 'POST', '/sessions', b'{}')
    for session in made:
        service.call('DELETE', session, expect=204)
    facts = json.loads(service.call('GET', '/model'))
    notice = f'{MODEL} has no trained memory: it sees only its window of {facts["window"]} tokens.'
    assert facts['trained_memory'] is False and any(line.startswith(notice) for line in service.said), (facts, service.said)


def check_bodies(service):
    """Bodies that the three services must judge alike, and in the same words, which are none of a library below them."""
    nest = lambda depth: b'[' * depth + b']' * depth
    for body, message in (
            (b'{"seed": 1, "seed": 2}', "'seed' stands twice in the body"),
            (b'{"stop": ["a"], "st\\u006fp": "b"}', "'stop' stands twice in the body"),
            (b'{"seed": {"a": [{"b": 1, "b": 1}]}}', "'b' stands twice in the body"),
            (b'{"stop": "\\ud800"}', 'a text of the body has half of a surrogate pair'),
            (b'{"stop": "\\ude00\\ud83d"}', 'a text of the body has half of a surrogate pair'),
            (b'{"\\udc00": 1}', 'a text of the body has half of a surrogate pair'),
            (b'{"stop": "\xed\xa0\x80"}', 'the body is not UTF-8'),
            (b'\xef\xbb\xbf{}', 'the body is not JSON from byte 1 on'),
            (b'{} x', 'the body is not JSON from byte 4 on'),
            (b'{"seed": 1', 'the body is not JSON from byte 10 on'),
            (b'\n{"stop": "\xc3\xa4",\n x}', 'the body is not JSON from byte 18 on'),
            (b'{"ignore_end": TRUE}', 'the body is not JSON from byte 16 on'),
            (b'{"stop": "a\nb"}', 'the body is not JSON from byte 12 on'),
            (b'{"stop": "\\\'"}', 'the body is not JSON from byte 12 on'),
            (b'{"seed": 01}', 'the body is not JSON from byte 11 on'),
            (b'{"seed": ' + nest(64) + b'}', 'the body is nested deeper than 64'),
            (b'{"seed": ' + nest(63) + b'}', "option 'seed' is neither a number, nor a text, nor true or false"),
            (b'{"seed": null}', "option 'seed' is neither a number, nor a text, nor true or false"),
            (b'{"stop": [null]}', "option 'stop' takes texts"),
            (b'{"stop": true}', "option 'stop' takes a text, not an integer"),
            (b'{"threads": 100000}', f"option 'threads' may be at most {len(os.sched_getaffinity(0))} here"),
            (b'[1]', 'the body is not a JSON object')):
        said = service.refused(400, 'INVALID_ARGUMENT', 'POST', '/sessions', body)
        assert said == message, (said, body)
    for body in (b'{"seed": true}', b'{"temperature": false}', b'{"seed": 1234567890123456789}', b'{"temperature": 1E0}',
                 b'{"stop": "\\ud83d\\ude00"}', b'{"stop": "\\\\ud800"}', b'{"stop": "a{\\"B"}'):
        service.call('DELETE', '/sessions/' + json.loads(service.call('POST', '/sessions', body, expect=201))['id'], expect=204)


def check_seed(service):
    """The seed that a client gives holds, whatever the snapshot has that it puts in."""
    def writes(snapshot=None, **options):
        session = service.session(temperature=1, **options)
        if snapshot is None: service.feed(session, b'One day')
        else: service.call('PUT', session + '/snapshot', snapshot)
        snapshot = service.call('GET', session + '/snapshot')
        text = service.generate(session)[0]
        service.call('DELETE', session, expect=204)
        return text, snapshot
    first, snapshot = writes(seed=1)
    second = writes(seed=2)[0]
    assert first != second and writes(snapshot, seed=2)[0] == second and writes(snapshot)[0] == first, (first, second)


def check_framing(service):
    """Bodies that end early or are badly framed are the client's fault, and leave nothing behind."""
    session = service.session()
    for path in (session + '/feed', session + '/snapshot', session + '/chat', '/sessions'):
        method = 'PUT' if path.endswith('snapshot') else 'POST'
        wanted = {'error': 'INVALID_ARGUMENT', 'message': 'the body ends early or is badly framed'}
        left = {'error': 'INVALID_ARGUMENT', 'message': 'the client went away before the call had ended'}
        with service.begin(method, path, 'Content-Length: 100', body=b'{"max_') as connection:
            connection.shutdown(socket.SHUT_WR)
            status, answer = answer_of(connection)
            assert status == 400 and answer in (wanted, left), (path, status, answer)
        for body in (b'3\r\nabc\r\nzz\r\n', b'3\r\nabcdef\r\n0\r\n\r\n'):
            with service.begin(method, path, 'Transfer-Encoding: chunked', body=body) as connection:
                status, answer = answer_of(connection)
                assert status == 400 and answer == wanted, (path, body, status, answer)
    assert list(service.sessions()) == [session]
    service.until(session, False)
    service.feed(session, b'and then')
    service.call('DELETE', session, expect=204)


def check_texts(service):
    """Text in pieces, many clients at once, stop strings. Returns the session, and what it wrote."""
    text = TEXT.encode()
    pieces = [text[i:i + 7] for i in range(0, len(text), 7)]  # cut inside characters; the length is not announced
    cut, whole = service.session(), service.session()
    answer = json.loads(service.call('POST', cut + '/feed', iter(pieces)))
    assert answer == {'position': service.feed(whole, text), 'skipped': 0} and answer['position'] > 1000, answer
    wanted, reason = service.generate(cut)
    assert reason == 'max_tokens' and wanted == service.generate(whole)[0], (reason, wanted)
    answers = []
    def client():
        mine = service.session()
        service.feed(mine, text)
        answers.append(service.generate(mine)[0])
        service.call('DELETE', mine, expect=204)
    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients: thread.start()
    for thread in clients: thread.join()
    assert answers == [wanted] * 8, answers
    stops = service.session(stop=['no\nsuch', wanted[5:9]])
    service.feed(stops, text)
    assert service.generate(stops) == (wanted[:wanted.find(wanted[5:9])], 'stop_string')
    for session in (cut, stops):
        service.call('DELETE', session, expect=204)
    return whole, wanted


def check_leaving(service):
    """Clients that go away: while events come, while none do, in the middle of a body, and behind a long one."""
    endless, silent, session = service.session(**ENDLESS), service.session(**SILENT), service.session()
    for path in (endless, silent):
        service.feed(path, b'Once upon a time')
    with service.generating(endless):
        service.refused(409, 'BUSY', 'POST', endless + '/feed', b'x')
    service.until(endless, False)
    with service.begin('POST', silent + '/generate', 'Content-Length: 0'):
        service.until(silent, True, 100)
    service.until(silent, False)
    with service.begin('POST', session + '/feed', 'Content-Length: 1000', body=b'half a body'):
        service.until(session, True)
    service.until(session, False)
    with service.feeding(session):
        time.sleep(1)
    service.until(session, False)
    for path in (endless, silent, session):
        service.feed(path, b' and then')
        service.call('DELETE', path, expect=204)


def check_cancel(service):
    """Calls that are ended from outside, by cancel and by DELETE."""
    def at_once(method, path):
        begun = time.monotonic()
        service.call(method, path, expect=204)
        assert time.monotonic() - begun < SOON, f'{method} waits'
    endless, session = service.session(**ENDLESS), service.session()
    at_once('POST', session + '/cancel')  # nothing runs, and what comes is not ended
    assert service.feed(session, b'Once upon a time') > 0
    assert service.generate(session)[1] == 'max_tokens'
    with service.feeding(session) as feed:
        at_once('POST', session + '/cancel')
        was_cancelled(feed)
    service.until(session, False)
    with service.begin('POST', session + '/feed', 'Content-Length: 1000', body=b'half a body') as feed:
        service.until(session, True)
        at_once('POST', session + '/cancel')
        was_cancelled(feed)
    service.until(session, False)
    service.feed(session, b' and then')
    service.feed(endless, b'Once upon a time')
    for _ in range(2):  # the second goes on with the run
        with service.generating(endless) as stream:
            at_once('POST', endless + '/cancel')
            ends_cancelled(stream)
        service.until(endless, False)
    with service.generating(endless) as stream, service.feeding(session) as feed:
        at_once('DELETE', endless)
        at_once('DELETE', session)
        ends_cancelled(stream)
        was_cancelled(feed)
    assert service.sessions() == {}
    for path in (endless, session):
        service.refused(404, 'NOT_FOUND', 'POST', path + '/feed', b'x')


def check_timeouts(command):
    """Connections that stall are closed; those that are slow are not."""
    with Service(command, INFINI_HEADER_TIMEOUT='2', INFINI_BODY_TIMEOUT='2') as service:
        session, slow = service.session(), service.session()
        silent = socket.create_connection(('127.0.0.1', service.port))
        half = socket.create_connection(('127.0.0.1', service.port))
        half.sendall(b'GET /model HTTP/1.1\r\nHost')
        stalled = [service.begin('POST', session + '/feed', 'Content-Length: 1000', body=b'half a body'),
                   service.begin('POST', '/sessions', 'Content-Length: 10', body=b'{'),
                   service.begin('PUT', service.session() + '/snapshot', 'Transfer-Encoding: chunked', body=b'3\r\nabc\r\n')]
        dribbled = socket.create_connection(('127.0.0.1', service.port))
        def dribble():  # a head that never ends
            with contextlib.suppress(OSError):
                for byte in b'GET /model HTTP/1.1\r\nX: ' + b'x' * 1000:
                    dribbled.sendall(bytes((byte,)))
                    time.sleep(0.1)
        threading.Thread(target=dribble, daemon=True).start()
        def drops():  # a body that comes slowly, and is longer than its timeout
            for _ in range(8):
                time.sleep(0.5)
                yield b'One day. '
        assert service.feed(slow, drops()) > 16
        for connection in (silent, half, dribbled, *stalled):
            received = rest_of(connection, 9)  # where nobody sets a time, they may be silent for 10 s
            assert not received or received[:12] in (b'HTTP/1.1 400', b'HTTP/1.1 408'), received
            connection.close()
        service.until(session, False)
        service.feed(session, b'and then')
        with service.begin('GET', '/model') as connection:
            assert answer_of(connection)[0] == 200


def check_end(command):
    """The service is told to end while it streams, reads and waits."""
    for how in (signal.SIGTERM, signal.SIGINT):
        service = Service(command)
        with service:
            endless, session, waiting = service.session(**ENDLESS), service.session(), service.session()
            service.feed(endless, b'Once upon a time')
            with service.generating(endless) as stream, service.feeding(session) as feed, \
                    service.begin('POST', waiting + '/feed', 'Content-Length: 1000', body=b'half a body') as stalled, \
                    socket.create_connection(('127.0.0.1', service.port)):
                service.until(waiting, True)
                begun = time.monotonic()
                service.process.send_signal(how)
                ends_cancelled(stream)
                for connection in (feed, stalled):
                    was_cancelled(connection)
                code = service.process.wait(30)
                assert time.monotonic() - begun < SOON and code in (0, 130, 143), (code, time.monotonic() - begun)


def check_coming(command):
    """Requests whose head is coming as the service begins to end are told so."""
    body = b'{"max_tokens": 1}'
    request = f'POST /sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n'.encode() + body
    with Service(command, INFINI_MAX_SESSIONS='100') as service, contextlib.ExitStack() as stack:
        endless = service.session(**ENDLESS)
        service.feed(endless, b'Once upon a time')
        stream = stack.enter_context(service.generating(endless))
        connections = [stack.enter_context(socket.create_connection(('127.0.0.1', service.port), timeout=60)) for _ in range(10)]
        for connection in connections:
            connection.sendall(request[:30])
        service.sessions()  # whoever connected before is let in
        service.process.send_signal(signal.SIGTERM)
        ends_cancelled(stream)  # it has begun to end
        for connection in connections:
            connection.sendall(request[30:])
        answers = {(status, answer.get('error')) for status, answer in map(answer_of, connections)}
        assert answers == {(503, 'ENDING')}, answers
        assert service.process.wait(30) in (0, 130, 143)


def check_kept(command, store):
    """A service that ends amid requests of memories saves what they have read and written."""
    names = ('read', 'written')
    at = lambda service, name: service.sessions()['/sessions/memory:' + name][0]
    with Service(command, INFINI_STORE=store.name) as service:
        begun = json.loads(service.call('POST', '/v1/memories/read/feed', b'One day'))['position']
        body = json.dumps(many.LONG | {'stream': True, 'memory': 'written'}).encode()
        with service.begin('POST', '/v1/completions', f'Content-Length: {len(body)}', body=body) as stream, \
                service.feeding('/sessions/memory:read', '/v1/memories/read') as feed:
            assert stream.recv(100)
            service.until('/sessions/memory:read', True, begun + 100)
            service.until('/sessions/memory:written', True, 20)
            reached = {name: at(service, name) for name in names}
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(30) in (0, 130, 143)
    with Service(command, INFINI_STORE=store.name) as service:
        for name in names:
            service.call('GET', '/v1/memories/' + name)  # from the store
            assert at(service, name) >= reached[name], (name, at(service, name), reached)


def check_chat(command, model):
    """Conversations, with a model that has a chat template, and one that has none."""
    def messages(*contents, **more):
        roles = ('user', 'assistant')
        return json.dumps({'messages': [{'role': roles[i % 2], 'content': c} for i, c in enumerate(contents)]} | more).encode()
    with Service(command, model) as service:
        first, second = service.session(), service.session()
        reply = service.generate(first, '/chat', messages('Who is Lily?'))
        assert reply[0] and reply == service.generate(second, '/chat', messages('Who is Lily?')), reply
        assert service.generate(first, '/chat', messages('And Tom?'))[0]
        for _ in range(2):  # a long reply that is cut, and a message behind it
            assert service.generate(first, '/chat', messages('Tell me more.', 'Once', 'Go on.'))[0]
        def read(content):
            one = service.session(max_tokens=0)
            service.generate(one, '/chat', messages(content))
            position = service.sessions()[one][0]
            service.call('DELETE', one, expect=204)
            return position
        assert read('a' + '</s>' * 8) >= read('a') + 16  # a person's words, not eight control tokens
        for body in (b'', b'{}', b'[]', b'null', b'x', b'{"messages": 3}', b'{"messages": null}', b'{"messages": [3]}',
                     b'{"messages": [{"role": "pirate", "content": "x"}]}', b'{"messages": [{"content": "x"}]}',
                     messages('x', temperature=1), messages('x') + b' x', messages('x')[:-1], b'{"messages": ' + b'[' * 30000,
                     b'{"messages": [{"role": "user", "content": "\xff"}]}', b'{"messages": ' + b'[' * 30000 + b']' * 30000 + b'}'):
            service.refused(400, 'INVALID_ARGUMENT', 'POST', first + '/chat', body)
        service.refused(413, 'TOO_LARGE', 'POST', first + '/chat', messages('x' * (2 << 20)))
        silent = service.session(**SILENT)
        with service.begin('POST', silent + '/chat', f'Content-Length: {len(messages("x"))}', body=messages('x')):
            service.until(silent, True, 100)
        service.until(silent, False)
        for session in (first, second, silent):
            service.call('DELETE', session, expect=204)
    with Service(command) as service:
        service.refused(400, 'UNSUPPORTED', 'POST', service.session() + '/chat', messages('x'))


def check_gaps(command, folder):
    """Text that the vocabulary has no token for, with a model that remembers, and whose byte 0x16 lost its token."""
    token = lambda text: struct.pack('<Q', len(text.encode())) + text.encode()
    data = (pathlib.Path(MODEL).parent / 'recall.gguf').read_bytes()
    assert data.count(token('\u0116')) == 1
    model = folder / 'gaps.gguf'
    model.write_bytes(data.replace(token('\u0116'), token('\u03a9')))
    with Service(command, str(model), INFINI_MAX_PROMPT='100') as service:
        for prompt, expect in (('a \x16log ', 200), ('a \x16log ' * 100, 400)):  # which bounds it, too
            answer = v1.post(service, 'completions', expect, prompt=prompt, max_tokens=3)
        assert answer['error']['code'] == 'context_length_exceeded', answer
        assert json.loads(service.call('GET', '/model'))['trained_memory'] is True
        assert not any('no trained memory' in line for line in service.said), service.said
        session, strict = service.session(), service.session(unknown_text='error')
        plain = json.loads(service.call('POST', session + '/feed', b'a log'))
        again = json.loads(service.call('POST', session + '/feed', b'a \x16log\x16'))
        assert plain['skipped'] == 0 and again['skipped'] == 2, (plain, again)
        assert json.loads(service.call('POST', session + '/feed', b'a log'))['skipped'] == 0
        service.refused(400, 'INVALID_ARGUMENT', 'POST', strict + '/feed', b'a \x16log')


def check_clients(command, model, book):
    """Clients that others wrote, which services.sh has made ready, among them a browser that has a book read, of so many bytes."""
    page = pathlib.Path(__file__).parents[2] / 'samples/web/index.html'
    for client in filter(None, os.environ.get('INFINI_CLIENTS', '').split(';')):
        with tempfile.TemporaryDirectory() as store, Service(
                command, model, INFINI_PAGE=str(page), INFINI_STORE=store, INFINI_MAX_TOKENS=str(1 << 20)) as service:
            subprocess.run(shlex.split(client) + [f'127.0.0.1:{service.port}', TOKEN], check=True, timeout=240,
                           env=dict(os.environ, INFINI_BOOK_BYTES=str(book)))


def check(command, speaks_v1, book, kinds, turn):
    store = lambda i: stores.new(kinds[(turn + i) % len(kinds)])
    with Service(command) as service:
        check_requests(service)
        check_bodies(service)
        check_seed(service)
        if speaks_v1:
            v1.check_completions(service)
            v1.check_embeddings(service)
            v1.check_leaving(service)
            v1.check_cancel(service)
        check_framing(service)
        session, wanted = check_texts(service)
        snapshot = service.call('GET', session + '/snapshot')  # saved, damaged, restored
        wanted = service.generate(session)[0]
        damaged = bytearray(snapshot)
        damaged[len(damaged) // 2] ^= 1
        service.refused(422, 'CHECKSUM', 'PUT', session + '/snapshot', bytes(damaged))
        service.call('DELETE', session, expect=204)
        check_leaving(service)
        check_cancel(service)
    with Service(command) as service:  # after a restart
        service.refused(404, 'NOT_FOUND', 'GET', session + '/snapshot')
        restored = service.session()
        service.call('PUT', restored + '/snapshot', snapshot)
        assert service.generate(restored)[0] == wanted
    check_timeouts(command)
    check_end(command)
    check_coming(command)
    with tempfile.TemporaryDirectory() as folder:
        model = f'{folder}/chat.gguf'
        chat_model.write(MODEL, model)
        check_chat(command, model)
        if speaks_v1:
            with Service(command, model) as service:
                v1.check_chat(service)
                v1.check_turn(service)
                v1.check_merging(service)
                v1.check_known(service, service)
                v1.check_notes(service, service)
            for i in range(len(kinds)):
                v1.check_memories(command, model, store(i))
            v1.check_idle(command, model, store(1))
            v1.check_refused(command, model)
            v1.check_default(command, model, pathlib.Path(folder) / 'default')
            v1.check_refused(command, model, INFINI_STORE=store(0).name)
            v1.check_late(command, model)
            check_kept(command, store(2))
            many.check(command, pathlib.Path(folder))
            operators.check(command, pathlib.Path(folder), model)
            check_clients(command, model, book)
        check_gaps(command, pathlib.Path(folder))
    return snapshot, wanted


commands = dict(argument.split('=', 1) for argument in sys.argv[2:])
saved = {}
with tempfile.TemporaryDirectory() as folder, Stores(folder) as stores:
    for turn, (name, command) in enumerate(commands.items()):
        saved[name] = check(command, name in SPEAK_V1, 50000 if saved else 1 << 20, stores.kinds(name), turn)  # the long book once
        print(f'{name}: keeps its promises')
    model = f'{folder}/chat.gguf'
    chat_model.write(MODEL, model)
    stores.check(commands, model)
for name, command in commands.items():
    with Service(command) as service:
        for other, (snapshot, wanted) in saved.items():
            restored = service.session()
            service.call('PUT', restored + '/snapshot', snapshot)
            assert service.generate(restored)[0] == wanted, f'{name} restores what {other} saved'
    print(f'{name}: restores what {", ".join(saved)} saved')
