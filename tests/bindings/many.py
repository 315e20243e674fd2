"""Many clients at once: what samples/SERVICES.md promises of turns, limits and fairness, for services.py."""
import contextlib
import http.client
import json
import socket
import threading
import time

import v1
from service import BOOK, SOON, TOKEN, Service, ends_cancelled

LONG = {'prompt': 'One day', 'max_tokens': 1 << 30, 'logit_bias': {'2': -100}}  # never ends by itself


def asks(service, fields, path='/v1/completions', token=TOKEN):
    """A request whose answer is not read yet."""
    connection = http.client.HTTPConnection('127.0.0.1', service.port, timeout=60)
    connection.request('POST', path, json.dumps(fields), {'Authorization': f'Bearer {token}'})
    return connection


def endless(service):
    """A connection on which text comes and comes."""
    body = json.dumps(LONG | {'stream': True}).encode()
    connection = service.begin('POST', '/v1/completions', f'Content-Length: {len(body)}', body=body)
    assert connection.recv(100)
    return connection


def metric(service, name):
    lines = service.call('GET', '/metrics').decode().splitlines()
    return next((float(line.rpartition(' ')[2]) for line in lines if line.rpartition(' ')[0] == name), 0)


def waits(service, name, value):
    end = time.monotonic() + SOON
    while metric(service, name) != value:
        assert time.monotonic() < end, f'{name} is {metric(service, name)}, not {value}'
        time.sleep(0.02)


def check_together(command):
    """Requests that join and leave at any time write what they would alone; who is at fault is refused alone."""
    with Service(command, INFINI_BATCH='8') as service:
        prompts = ['One day', 'Once upon a time, there was a', 'Tom', 'The sun and the moon', 'Lily'] * 3
        ask = lambda i: v1.post(service, 'completions', prompt=prompts[i], temperature=0, max_tokens=10 + 17 * i % 60)['choices'][0]
        alone = [ask(i) for i in range(5)]
        together = [None] * len(prompts)
        def client(i):
            time.sleep(i % 4 * 0.02)
            together[i] = ask(i)
        clients = [threading.Thread(target=client, args=(i,)) for i in range(len(prompts))]
        for thread in clients: thread.start()
        # The only token that is left is the end: there is nothing to write, or the library refuses the request, and nothing else.
        bad = asks(service, {'prompt': 'x', 'logit_bias': {str(token): -10000 for token in range(512)}})
        assert bad.getresponse().status in (200, 400)
        for thread in clients: thread.join()
        for i, choice in enumerate(together):
            assert choice and choice['finish_reason'] == 'length', (i, choice)
            if i < 5:
                assert choice == alone[i], (choice, alone[i])
        waits(service, 'infini_active_requests', 0)
        assert service.sessions() == {}


def check_queue(command):
    """The queue has an end, is fair between clients, and loses who goes away."""
    with Service(command, INFINI_BATCH='1', INFINI_QUEUE='3', INFINI_MAX_TOKENS=str(1 << 40), INFINI_TOKEN=f'{TOKEN}, two') as service:
        first = endless(service)
        short = LONG | {'max_tokens': 1000}  # long enough that the order shows
        order, answers = [], []
        def waits_for(token):
            assert asks(service, short, token=token).getresponse().status == 200
            order.append(token)
        for i, token in enumerate((TOKEN, TOKEN, 'two')):
            answers.append(threading.Thread(target=waits_for, args=(token,)))
            answers[-1].start()
            waits(service, 'infini_queue_requests', i + 1)
        service.call('GET', '/readyz', expect=503)
        refused = asks(service, short, token='two').getresponse()
        error = json.loads(refused.read())['error']
        assert refused.status == 429 and int(refused.headers['Retry-After']) >= 1 and error['type'] == 'rate_limit_error', error
        first.close()
        for thread in answers: thread.join(30)
        assert order == [TOKEN, 'two', TOKEN], order  # in turn, though both of the one's came before
        service.call('GET', '/readyz')
        first = endless(service)
        gone = asks(service, short, token='two')
        waits(service, 'infini_queue_requests', 1)
        gone.close()
        waits(service, 'infini_queue_requests', 0)
        first.close()
        waits(service, 'infini_active_requests', 0)


def check_limits(command, folder):
    with Service(command, INFINI_MAX_PROMPT='100', INFINI_MAX_SECONDS='1', INFINI_MAX_TOKENS=str(1 << 40), INFINI_MAX_MEMORIES='1',
                 INFINI_STORE=str(folder / 'store')) as service:
        error = v1.post(service, 'completions', 400, prompt='Lily has a dog. ' * 100)['error']
        assert error['code'] == 'context_length_exceeded' and '100' in error['message'], error
        assert v1.post(service, 'embeddings', 400, input=['x', 'Lily has a dog. ' * 100])['error']['code'] == 'context_length_exceeded'
        begun = time.monotonic()
        late = v1.post(service, 'completions', **LONG)
        assert 0.9 < time.monotonic() - begun < 1 + SOON
        assert late['choices'][0]['finish_reason'] == 'length' and late['usage']['completion_tokens'] > 1, late
        v1.post(service, 'completions', prompt='x', max_tokens=1, memory='one')
        assert v1.post(service, 'completions', 429, prompt='x', max_tokens=1, memory='two')['error']['code'] == 'too_many_memories'
        v1.post(service, 'completions', prompt='x', max_tokens=1, memory='one')


def check_long_prompt(command):
    """Who writes goes on while a long prompt is read, and a busy session is ended by DELETE."""
    with Service(command) as service:
        service.call('POST', '/v1/completions', json.dumps({'prompt': 'One day', 'max_tokens': 1}).encode())
        session = service.session(max_tokens=-1, ignore_end=True)
        service.feed(session, b'Once upon a time')
        with service.generating(session) as stream:
            reading = asks(service, {'prompt': 'Lily has a dog. ' * 3000, 'max_tokens': 1})
            answered = threading.Event()
            def wait():
                assert reading.getresponse().status == 200
                answered.set()
            thread = threading.Thread(target=wait)
            thread.start()
            pieces = 0
            stream.settimeout(SOON)
            while not answered.is_set():
                assert stream.recv(4096)
                pieces += 1
            thread.join()
            assert pieces > 20, f'{pieces} pieces came while a prompt was read'
            service.call('DELETE', session, expect=204)
            ends_cancelled(stream)


def check_pieces(command):
    """A short prompt does not wait until long ones, which came before, have been read."""
    with Service(command) as service:
        long = [{'prompt': 'Lily has a dog. ' * 2000}, {'prompt': 'Tom has a cat. ' * 2000}, {'prompt': 'The sun is hot. ' * 2000}]
        longs = [asks(service, fields | {'max_tokens': 1}) for fields in long]
        waits(service, 'infini_active_requests', 3)
        answered = []
        def wait(name, connection):
            response = connection.getresponse()
            assert response.status == 200, response.read()
            answered.append(name)
        threads = [threading.Thread(target=wait, args=('long', connection)) for connection in longs]
        threads.append(threading.Thread(target=wait, args=('short', asks(service, {'prompt': 'One day', 'max_tokens': 1}))))
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert answered[0] == 'short' and len(answered) == 4, answered


def check_silent_reader(command):
    """Who does not listen is not written for, holds up nobody, and is gone when it leaves."""
    body = json.dumps(LONG | {'stream': True})
    with Service(command, INFINI_MAX_TOKENS=str(1 << 40)) as service, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(('127.0.0.1', service.port))
        connection.sendall(f'POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n'
                           f'Content-Length: {len(body)}\r\n\r\n{body}'.encode())
        most, still, now, end = 0, 0, [0], time.monotonic() + 600  # C# buffers 400,000 tokens
        while most < 100 or still < 3:  # or it was hung up on; one pause may be the network's
            assert time.monotonic() < end, now
            v1.post(service, 'completions', prompt='One day', max_tokens=30)
            time.sleep(1)
            before, now = now, [position for position, _ in service.sessions().values()]
            most, still = max([most] + now), still + 1 if now == before else 0
        connection.close()
        waits(service, 'infini_active_requests', 0)
        assert service.sessions() == {}


def check_feeds(command):
    """Feeds have their turns, by clients and beside who writes; those that wait for text have none, and no more wait than may."""
    with Service(command, INFINI_QUEUE='2', INFINI_TOKEN=f'{TOKEN}, two') as service, contextlib.ExitStack() as stack:
        endless, refused = service.session(max_tokens=-1, ignore_end=True), service.session()
        service.feed(endless, b'Once upon a time')
        books = {service.session(): token for token in ['two'] + [TOKEN] * 5}
        connections, begun = [], 8192  # bytes
        for session, token in books.items():  # one after the other: each is let in, though in the end more wait than may
            connections.append(stack.enter_context(service.begin(
                'POST', session + '/feed', f'Content-Length: {len(BOOK)}', body=BOOK[:begun], token=token)))
            service.until(session, True, 0)
        waits(service, 'infini_active_requests', 0)
        stream = stack.enter_context(service.generating(endless))
        def hear():
            with contextlib.suppress(OSError):
                while stream.recv(1 << 16): pass
        def send(connection):
            with contextlib.suppress(OSError):  # we hung up
                connection.sendall(BOOK[begun:])
        threads = [threading.Thread(target=hear)] + [threading.Thread(target=send, args=(connection,)) for connection in connections]
        for thread in threads: thread.start()
        def leave():
            for connection in connections + [stream]: connection.shutdown(socket.SHUT_RDWR)
            for thread in threads: thread.join()
        stack.callback(leave)
        at = lambda: {session: position for session, (position, _) in service.sessions().items()}
        two, *others = books
        before = now = at()
        end = time.monotonic() + 60
        while now[two] < before[two] + 20000:
            assert time.monotonic() < end, (before, now)
            time.sleep(0.02)
            now = at()
        read = {session: now[session] - before[session] for session in now}
        assert 0.5 < sum(read[session] for session in others) / read[two] < 1.7, read
        assert all(read[session] > 1000 for session in others) and read[endless] > 100, read
        service.call('GET', '/readyz', expect=503)
        response = asks(service, 'The sun is hot.', refused + '/feed').getresponse()
        answer = json.loads(response.read())
        assert response.status == 429 and answer['error'] == 'QUEUE_FULL' and int(response.headers['Retry-After']) >= 1, answer
        assert service.sessions()[refused] == (0, False)
        v1.post(service, 'completions', prompt='One day', max_tokens=3)  # which does not wait for feeds


def check(command, folder):
    check_together(command)
    check_queue(command)
    check_limits(command, folder)
    check_long_prompt(command)
    check_pieces(command)
    check_feeds(command)
    check_silent_reader(command)
