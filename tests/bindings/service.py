"""A sample service that runs, for services.py, and what a client that speaks HTTP by hand needs."""
import contextlib
import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time

MODEL = sys.argv[1]
TOKEN = 'token for the test'
BODY_LIMIT = 8 << 20
SOON = 10  # seconds in which a call that was ended must have ended, however busy the machine is
BOOK = b'One day Lily met a big dog in the park. ' * (5 << 20 >> 5)  # over 5 MB: a minute's reading, and below the limit


class Service:
    def __init__(self, command, model=MODEL, **environment):
        environment = dict(os.environ, INFINI_TOKEN=TOKEN, INFINI_MAX_BODY=str(BODY_LIMIT), INFINI_MAX_SESSIONS='12', INFINI_LOG='off',
                           INFINI_STORE='none') | environment
        self.process = subprocess.Popen(shlex.split(command) + [model, '127.0.0.1:0'], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, env=environment)
        self.said = []  # before it listened
        self.heard = []  # after
        for line in self.process.stdout:
            if line.startswith('listening on '):
                self.port = int(line.strip().rpartition(':')[2])
                break
            self.said.append(line.strip())
        else:
            raise AssertionError(f'{command} ended with {self.process.wait()}: {self.said}')
        threading.Thread(target=self.show, daemon=True).start()

    def show(self):
        for line in self.process.stdout:
            self.heard.append(line)
            if not line.startswith('{'):  # which is of the log
                print('  it said:', line, end='', flush=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def call(self, method, path, body=None, token=TOKEN, expect=200):
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
        headers = {'Authorization': f'Bearer {token}'} if token else {}
        connection.request(method, path, body=body, headers=headers, encode_chunked=not isinstance(body, (bytes, type(None))))
        response = connection.getresponse()
        data = response.read()
        connection.close()
        assert response.status == expect, f'{method} {path}: {response.status}, not {expect}: {data[:300]}; sent {str(body)[:100]}'
        return data

    def refused(self, code, name, method, path, body=None, token=TOKEN):
        answer = json.loads(self.call(method, path, body, token, code))
        assert answer['error'] == name and answer['message'], (answer, str(body)[:100])
        return answer['message']

    def begin(self, method, path, *headers, body=b'', token=TOKEN):
        """A connection on which a request was begun by hand."""
        connection = socket.create_connection(('127.0.0.1', self.port), timeout=60)
        head = (f'{method} {path} HTTP/1.1', 'Host: x', f'Authorization: Bearer {token}', *headers, '', '')
        connection.sendall('\r\n'.join(head).encode() + body)
        return connection

    def too_large(self, method, path):
        """Announces a body over the limit, which is refused before it is sent."""
        with self.begin(method, path, f'Content-Length: {BODY_LIMIT + 1}') as connection:
            status, answer = answer_of(connection)
        assert status == 413 and answer['error'] == 'TOO_LARGE', (status, answer)

    def session(self, **options):
        options = {'max_tokens': 40, 'temperature': 0, 'threads': 1} | options
        return '/sessions/' + json.loads(self.call('POST', '/sessions', json.dumps(options).encode(), expect=201))['id']

    def sessions(self):
        """What the service says of its sessions, which it must at once."""
        begun = time.monotonic()
        listed = json.loads(self.call('GET', '/sessions'))
        assert time.monotonic() - begun < SOON, 'GET /sessions waits'
        assert all(set(entry) == {'id', 'position', 'busy'} for entry in listed), listed
        return {'/sessions/' + entry['id']: (entry['position'], entry['busy']) for entry in listed}

    def until(self, session, busy, beyond=-1):
        """Waits until a session is busy or free, beyond a position, and returns where it is."""
        end = time.monotonic() + (60 if busy else SOON)
        while True:
            position, now = self.sessions()[session]
            if now == busy and position > beyond:
                return position
            assert time.monotonic() < end, f'after {SOON} s session is ' + ('busy' if now else 'free') + f' at {position}'
            time.sleep(0.02)

    def feed(self, session, text):
        return json.loads(self.call('POST', session + '/feed', text))['position']

    def generate(self, session, call='/generate', body=None):
        """The text of a run, and why it ended."""
        pairs = events_of(self.call('POST', session + call, body))
        assert all(name == 'text' and value['text'] for name, value in pairs[:-1]), pairs
        assert pairs[-1][0] == 'end', pairs
        return ''.join(value['text'] for _, value in pairs[:-1]), pairs[-1][1]['stop_reason']

    @contextlib.contextmanager
    def feeding(self, session, path=None):
        """A connection on which the book is sent, once the session has begun to read it; at the end the client leaves."""
        with self.begin('POST', (path or session) + '/feed', f'Content-Length: {len(BOOK)}') as connection:
            def send():
                with contextlib.suppress(OSError):  # the service hung up, or we did
                    connection.sendall(BOOK)
            sender = threading.Thread(target=send)
            sender.start()
            try:
                self.until(session, True, 0)
                yield connection
            finally:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                sender.join()

    def generating(self, session):
        """A connection on which a run's events come, once there was text."""
        connection = self.begin('POST', session + '/generate', 'Content-Length: 0')
        received = b''
        while b'event: text' not in received:
            part = connection.recv(100)
            assert part, received
            received += part
        return connection


def answer_of(connection):
    """The status and the object of an answer to a request that was begun by hand."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


def rest_of(connection, seconds):
    """What comes until the service closes the connection, which must be soon enough."""
    received, end = b'', time.monotonic() + seconds
    try:
        while True:
            connection.settimeout(max(0.01, end - time.monotonic()))
            part = connection.recv(65536)
            if not part:
                break
            received += part
    except ConnectionError:
        pass
    except TimeoutError:
        raise AssertionError(f'the connection is open after {seconds} s: {received[-300:]}') from None
    return received


def events_of(data):
    events = [event.split('\n') for event in data.decode().strip().split('\n\n') if not event.startswith(':')]
    return [(name.removeprefix('event: '), json.loads(value.removeprefix('data: '))) for name, value in events]


def ends_cancelled(connection):
    """A stream says that it was cancelled."""
    received = b''
    connection.settimeout(SOON)
    while b'event: end' not in received or b'}' not in received.partition(b'event: end')[2]:
        part = connection.recv(65536)
        assert part, f'the stream ends without `end`: {received[-200:]}'
        received += part
    data = received.partition(b'event: end\ndata: ')[2].partition(b'\n')[0]
    assert json.loads(data) == {'stop_reason': 'cancelled'}, received[-200:]


def was_cancelled(connection):
    """A feed is told that it was cancelled, or, where its text was still on its way, hung up on."""
    try:
        connection.settimeout(SOON)
        status, answer = answer_of(connection)
    except (ConnectionError, http.client.RemoteDisconnected):
        return
    assert status == 409 and answer['error'] == 'CANCELLED', (status, answer)
