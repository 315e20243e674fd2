"""Where memories live, for services.py: in a folder, SQLite or PostgreSQL. What one service wrote the others read, and of two that
write one memory at once neither loses its words silently."""
import contextlib
import http.client
import json
import os
import pathlib
import random
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.parse

import many
import postgres
import v1
from service import TOKEN, Service

DATABASES = os.environ.get('INFINI_DATABASES', '').split()  # services that were built with their drivers
CONFLICT = 'conflict'


class Store:
    """One that is new: what INFINI_STORE is, and how many bytes it has of a memory."""

    def __init__(self, name, bytes):
        self.name, self.bytes = name, bytes


class Stores:
    def __init__(self, folder):
        self.folder, self.count, self.stack, self.server = pathlib.Path(folder), 0, contextlib.ExitStack(), None

    def __enter__(self):
        if postgres.found() and DATABASES:
            with socket.create_server(('127.0.0.1', 0)) as free:
                port = free.getsockname()[1]
            self.server = postgres.Postgres(self.stack.enter_context(tempfile.TemporaryDirectory()), port)
            self.at = ('-h', self.server.folder, '-p', str(self.server.port), '-U', self.server.user.pw_name)
            self.stack.callback(self.server.stop)
        elif DATABASES:
            print('skipped: memories in PostgreSQL, which needs its server (Debian package postgresql)')
        return self

    def __exit__(self, *_):
        self.stack.close()

    def kinds(self, name):
        """Those that a service has."""
        if name not in DATABASES:
            print(f'{name}: memories in databases are left out, since it was built without')
        return ('folder', 'sqlite') + ('postgres',) * bool(self.server) if name in DATABASES else ('folder',)

    def new(self, kind):
        self.count += 1
        path = self.folder / f'{kind}{self.count}'
        if kind == 'folder':
            size = lambda name: (file := path / f'{name}.snapshot').exists() and file.stat().st_size or None
            return Store(str(path), size)
        select = "SELECT length(snapshot) FROM infini_store WHERE name = '%s'"
        if kind == 'sqlite':
            def size(name):
                with contextlib.closing(sqlite3.connect(path)) as database:
                    return (database.execute(select % name).fetchone() or (None,))[0]
            return Store(f'sqlite:{path}', size)
        self.server.run('createdb', *self.at, path.name)
        def size(name):
            return int(self.server.run('psql', *self.at, '-Atc', select % name, path.name) or 0) or None
        return Store(f'postgres://{self.server.user.pw_name}@127.0.0.1:{self.server.port}/{path.name}?sslmode=disable', size)

    def check(self, commands, model):
        """What two services do with one store; the model has a chat template."""
        for kind in ('folder', 'sqlite', 'postgres'):
            able = [command for name, command in commands.items() if kind in (('folder',) if name not in DATABASES else self.kinds(name))]
            if not able: continue
            store = self.new(kind)
            with contextlib.ExitStack() as stack:
                services = [stack.enter_context(Service(command, model, INFINI_STORE=store.name)) for command in (able * 2)[:max(2, len(able))]]
                for i, service in enumerate(services):
                    check_conflict(service, services[i - 1], f'conflict{i}')
                    v1.check_known(service, services[i - 1])
                    v1.check_notes(service, services[i - 1])
                check_writers(services)
                if kind == 'postgres':
                    database = urllib.parse.urlsplit(store.name).path[1:]
                    check_outage(services, self.server)
                    check_full(services, lambda statement: self.server.run('psql', *self.at, '-c', statement, database))
            if kind == 'postgres':
                for command in able:
                    check_slow_write(command, model, store.name, lambda: self.server.locked('infini_store', *self.at, database))
            print(f'{kind}: of {len(services)} services none loses what it was told')
        for name, command in commands.items():
            for wrong in ('postgres://127.0.0.1:1/none', '/dev/null/none'):
                try:
                    Service(command, INFINI_STORE=wrong)
                except AssertionError as refused:
                    assert 'INFINI_STORE cannot be used' in str(refused), refused
                else:
                    raise AssertionError(f'{name} takes the store {wrong}')


def feed(service, name, text):
    """Status and answer; a text that is not at hand yet is sent in pieces."""
    connection = http.client.HTTPConnection('127.0.0.1', service.port, timeout=60)
    connection.request('POST', f'/v1/memories/{name}/feed', text, {'Authorization': f'Bearer {TOKEN}'},
                       encode_chunked=not isinstance(text, bytes))
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def fed(service, name, text):
    status, answer = feed(service, name, text)
    assert status == 200, (status, answer)
    return answer['position']


def check_conflict(first, second, name):
    """Who writes while another one does is told, and goes on from what that one wrote."""
    copy = lambda service: service.call('GET', '/v1/memories/' + name)
    begun = fed(first, name, b'One day Lily met a dog. ')
    assert fed(second, name, b'It was big. ') > begun  # which read what the first one wrote
    session = '/sessions/memory:' + name
    def slow():
        yield b'And then Tom came. ' * 50
        first.until(session, True, begun)
        fed(second, name, b'The dog was sad. ')
        yield b'And they all went home. '
    status, answer = feed(first, name, slow())
    assert status == 409 and answer['error']['code'] == CONFLICT, (status, answer)
    written = copy(second)
    assert copy(first) == written
    body = json.dumps(many.LONG | {'stream': True, 'memory': name}).encode()  # as events
    with first.begin('POST', '/v1/completions', f'Content-Length: {len(body)}', body=body) as stream:
        received = stream.recv(1000)
        position = fed(second, name, b'Lily was happy. ')
        first.call('POST', session + '/cancel', expect=204)
        while f'"code":"{CONFLICT}"' not in received.decode().replace(' ', ''):
            part = stream.recv(65536)
            assert part and b'[DONE]' not in received, received[-300:]
            received += part
    assert fed(first, name, b'The end. ') > position and copy(first) == copy(second) != written
    second.call('DELETE', '/v1/memories/' + name, expect=204)
    first.call('GET', '/v1/memories/' + name, expect=404)
    assert fed(first, name, b'One day') < begun


def check_writers(services):
    """What each of many clients was told is kept is in the memory once."""
    answered, refused = [], []
    def client(number):
        for i in range(6):
            text = f'{number} {i} Lily and Tom saw a big tree. '.encode()
            while True:
                status, answer = feed(random.choice(services), 'shared', text)
                if status == 200:
                    answered.append((answer['position'], text))
                    break
                assert status == 409 and answer['error']['code'] in (CONFLICT, 'busy'), (status, answer)
                refused.append(answer['error']['code'])
    clients = [threading.Thread(target=client, args=(number,)) for number in range(6)]
    for thread in clients: thread.start()
    for thread in clients: thread.join()
    assert len(answered) == 36 and len(dict(answered)) == 36, answered
    twin = services[0].session()
    for position, text in sorted(answered):
        assert services[0].feed(twin, text) == position, (position, text)
    services[0].call('DELETE', twin, expect=204)
    print(f'  36 texts, of which {len(refused)} were sent again: {refused.count(CONFLICT)} conflicts')


def check_full(services, run):
    """Where a memory cannot be written, the request is refused, and the memory is what it was."""
    before = [fed(service, f'full{i}', b'One day Lily met a dog. ') for i, service in enumerate(services)]
    run('ALTER TABLE infini_store ADD CONSTRAINT no_more CHECK (false) NOT VALID')
    for i, service in enumerate(services):
        status, answer = feed(service, f'full{i}', b'It was big. ')
        assert status == 503 and answer['error']['code'] == 'not_kept', (status, answer)
        status, answer = feed(service, f'new{i}', b'It was big. ')
        assert status == 503 and answer['error']['code'] == 'not_kept', (status, answer)
        service.call('GET', f'/v1/memories/new{i}', expect=404)
    run('ALTER TABLE infini_store DROP CONSTRAINT no_more')
    for i, service in enumerate(services):
        twin = service.session()
        for text in (b'One day Lily met a dog. ', b'It was big. '):
            expected = service.feed(twin, text)
        assert fed(service, f'full{i}', b'It was big. ') == expected, before
        service.call('DELETE', twin, expect=204)


def check_slow_write(command, model, store, locked):
    """SIGTERM waits for a write that has begun, longer than for all else, and who waits for it is answered."""
    with Service(command, model, INFINI_STORE=store) as service:
        begun = fed(service, 'slow', b'One day Lily met a dog. ')
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked())
            answers = []
            client = threading.Thread(target=lambda: answers.append(feed(service, 'slow', b'It was big. ')))
            client.start()
            service.until('/sessions/memory:slow', True, begun + 1)
            time.sleep(0.5)  # it has read all
            service.process.terminate()
            try:
                service.process.wait(7)
            except subprocess.TimeoutExpired:
                pass
            else:
                raise AssertionError(f'the service ended with {service.process.returncode} before it had written')
        client.join()
        assert service.process.wait(5) in (0, 143), service.process.returncode
        assert answers[0][0] == 200 and answers[0][1]['position'] > begun, answers
    with Service(command, model, INFINI_STORE=store) as service:
        twin = service.session()
        for text in (b'One day Lily met a dog. ', b'It was big. '):
            service.feed(twin, text)
        assert fed(service, 'slow', b' ') == service.feed(twin, b' ')
        service.call('DELETE', '/v1/memories/slow', expect=204)


def check_outage(services, server):
    """While the database is away requests of memories are refused; afterwards they are as they were."""
    before = [fed(service, f'outage{i}', b'One day Lily met a dog. ') for i, service in enumerate(services)]
    server.stop()
    for i, service in enumerate(services):
        metrics = service.call('GET', '/metrics').decode()
        assert 'infini_sessions ' in metrics and 'infini_memories ' not in metrics, metrics
        status, answer = feed(service, f'outage{i}', b'It was big. ')
        assert status == 503 and answer['error']['code'] == 'store_failed', (status, answer)
        v1.post(service, 'completions', prompt='One day', max_tokens=3)
    server.start()
    for i, service in enumerate(services):
        assert fed(service, f'outage{i}', b'It was big. ') > before[i]
