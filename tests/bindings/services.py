#!/usr/bin/env python3
"""Talks HTTP to the sample services: services.py MODEL NAME=COMMAND... where each command takes a model and an address.

Every promise of samples/SERVICES.md is checked of each service, with concurrent clients, dropped connections and a restart
in between; then every service restores what every other one saved."""
import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import threading

MODEL = sys.argv[1]
TOKEN = 'token for the test'
BODY_LIMIT = 4 << 20


class Service:
    def __init__(self, command):
        environment = dict(os.environ, INFINI_TOKEN=TOKEN, INFINI_MAX_BODY=str(BODY_LIMIT), INFINI_MAX_SESSIONS='12')
        self.process = subprocess.Popen(shlex.split(command) + [MODEL, '127.0.0.1:0'], stdout=subprocess.PIPE, text=True,
                                        env=environment)
        for line in self.process.stdout:
            if line.startswith('listening on '):
                self.port = int(line.strip().rpartition(':')[2])
                break
        else:
            raise AssertionError(f'{command} ended with {self.process.wait()}')
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def call(self, method, path, body=None, token=TOKEN, expect=200):
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
        headers = {'Authorization': f'Bearer {token}'} if token else {}
        connection.request(method, path, body=body, headers=headers, encode_chunked=not isinstance(body, (bytes, type(None))))
        response = connection.getresponse()
        data = response.read()
        connection.close()
        assert response.status == expect, f'{method} {path}: {response.status}, not {expect}: {data[:300]}'
        return data

    def refused(self, code, name, method, path, body=None, token=TOKEN):
        answer = json.loads(self.call(method, path, body, token, code))
        assert answer['error'] == name and answer['message'], answer

    def too_large(self, method, path):
        """Announces a body over the limit, which is refused before it is sent."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
        connection.putrequest(method, path)
        connection.putheader('Authorization', f'Bearer {TOKEN}')
        connection.putheader('Content-Length', str(BODY_LIMIT + 1))
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 413 and json.loads(response.read())['error'] == 'TOO_LARGE', response.status
        connection.close()

    def session(self, **options):
        options = {'max_tokens': 40, 'temperature': 0, 'threads': 1} | options
        return '/sessions/' + json.loads(self.call('POST', '/sessions', json.dumps(options).encode(), expect=201))['id']

    def feed(self, session, text):
        return json.loads(self.call('POST', session + '/feed', text))['position']

    def generate(self, session):
        """The text of a run, and why it ended."""
        data = self.call('POST', session + '/generate').decode()
        events = [event.split('\n') for event in data.strip().split('\n\n')]
        pairs = [(name.removeprefix('event: '), json.loads(value.removeprefix('data: '))) for name, value in events]
        assert all(name == 'text' and value['text'] for name, value in pairs[:-1]), pairs
        assert pairs[-1][0] == 'end', pairs
        return ''.join(value['text'] for _, value in pairs[:-1]), pairs[-1][1]['stop_reason']


def check(command):
    with Service(command) as service:
        # tokens, paths, bodies
        service.refused(401, 'UNAUTHORIZED', 'POST', '/sessions', token=None)
        service.refused(401, 'UNAUTHORIZED', 'POST', '/sessions', token='wrong')
        service.refused(401, 'UNAUTHORIZED', 'POST', '/sessions', token=TOKEN + 'x')
        service.refused(404, 'NOT_FOUND', 'POST', '/sessions/0123456789abcdef/feed', b'x')
        service.refused(404, 'NOT_FOUND', 'GET', '/elsewhere')
        service.refused(400, 'UNKNOWN_OPTION', 'POST', '/sessions', b'{"no such": 1}')
        service.refused(400, 'INVALID_ARGUMENT', 'POST', '/sessions', b'{"threads": -7}')
        for body in (b'not JSON', b'[1]', b'1', b'{"max_tokens": 1', b'{"max_tokens": [1]}', b'{"max_tokens": null}', b'\xff\xfe',
                     b'{"max_tokens": 99999999999999999999}', b'{"max_tokens": 1e999}', b'{"threads": ' + b'[' * 30000,
                     b'{"stop": 3}', b'{"temperature": "hot"}'):
            service.refused(400, 'INVALID_ARGUMENT', 'POST', '/sessions', body)
        service.refused(413, 'TOO_LARGE', 'POST', '/sessions', b'{"stop": "' + b'x' * (1 << 17) + b'"}')
        session = service.session()
        service.refused(405, 'METHOD_NOT_ALLOWED', 'PUT', session + '/feed', b'x')
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
        service.refused(429, 'TOO_MANY_SESSIONS', 'POST', '/sessions', b'{}')
        for session in made:
            service.call('DELETE', session, expect=204)

        # a body without a length, cut inside characters
        text = 'One day 😀 Lily met a dog. ' * 200
        pieces = [text.encode()[i:i + 7] for i in range(0, len(text.encode()), 7)]
        session, whole = service.session(), service.session()
        assert service.feed(session, iter(pieces)) == service.feed(whole, text.encode()) > 1000
        wanted, reason = service.generate(session)
        assert reason == 'max_tokens' and wanted == service.generate(whole)[0], (reason, wanted)

        # concurrent clients, each with its own session
        answers = []
        def client():
            mine = service.session()
            service.feed(mine, text.encode())
            answers.append(service.generate(mine)[0])
            service.call('DELETE', mine, expect=204)
        clients = [threading.Thread(target=client) for _ in range(8)]
        for thread in clients: thread.start()
        for thread in clients: thread.join()
        assert answers == [wanted] * 8, answers

        # clients that go away: while reading events, and in the middle of a body
        endless = service.session(max_tokens=-1)
        service.feed(endless, text.encode())
        with socket.create_connection(('127.0.0.1', service.port)) as gone:
            head = f'POST {endless}/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n'
            gone.sendall(head.encode())
            received = b''
            while b'event: text' not in received:
                part = gone.recv(65536)
                assert part, received
                received += part
            service.refused(409, 'BUSY', 'POST', endless + '/feed', b'x')
        with socket.create_connection(('127.0.0.1', service.port)) as gone:
            head = f'POST {session}/feed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n'
            gone.sendall(head.encode() + b'half a body')
        for path in (endless, session):
            for _ in range(200):  # until the service has noticed
                try:
                    service.call('POST', path + '/feed', b' and then')
                    break
                except AssertionError as e:
                    assert 'BUSY' in str(e), e
                    threading.Event().wait(0.05)
            else:
                raise AssertionError(f'{path} stays busy')

        # saved, damaged, restored
        snapshot = service.call('GET', whole + '/snapshot')
        wanted = service.generate(whole)[0]
        damaged = bytearray(snapshot)
        damaged[len(damaged) // 2] ^= 1
        service.refused(422, 'CHECKSUM', 'PUT', whole + '/snapshot', bytes(damaged))
    with Service(command) as service:  # after a restart
        service.refused(404, 'NOT_FOUND', 'GET', whole + '/snapshot')
        restored = service.session()
        service.call('PUT', restored + '/snapshot', snapshot)
        assert service.generate(restored)[0] == wanted
    return snapshot, wanted


commands = dict(argument.split('=', 1) for argument in sys.argv[2:])
saved = {}
for name, command in commands.items():
    saved[name] = check(command)
    print(f'{name}: keeps its promises')
for name, command in commands.items():
    with Service(command) as service:
        for other, (snapshot, wanted) in saved.items():
            restored = service.session()
            service.call('PUT', restored + '/snapshot', snapshot)
            assert service.generate(restored)[0] == wanted, f'{name} restores what {other} saved'
    print(f'{name}: restores what {", ".join(saved)} saved')
