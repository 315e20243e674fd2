"""Three silos of samples/cluster and a PostgreSQL: memories are fed by clients that repeat what was not answered, while silos are
killed, stopped and started, and the database once. Afterwards each memory is what a session is that was fed the same texts once.
cluster.py MODEL MEMORIES AT_HAND SECONDS COMMAND..., where a silo holds so many memories at hand"""
import collections
import concurrent.futures
import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import chat_model
import postgres as server

MODEL, MEMORIES, AT_HAND, SECONDS, COMMAND = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:]
CLIENTS = 8
WORDS = 'Lily Tom dog park ball happy big little ran saw played found tree red house friend'.split()


def free_ports(count):
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Silo:
    def __init__(self, model, postgres, http_port, port):
        self.model = model
        self.address, self.port = f'127.0.0.1:{http_port}', f'127.0.0.1:{port}'
        self.environment = dict(os.environ, INFINI_TOKEN='secret', INFINI_POSTGRES=postgres.connection, INFINI_LOG='off',
                                INFINI_MAX_SESSIONS=str(AT_HAND), INFINI_UNSAVED='2000', INFINI_IDLE_SECONDS='4', INFINI_QUEUE='1000',
                                INFINI_MAX_TOKENS='1000000', INFINI_SHUTDOWN_SECONDS='60')
        self.start()

    def start(self):
        self.process = subprocess.Popen([*COMMAND, self.model, self.address, self.port], stdout=subprocess.PIPE, env=self.environment, text=True)

    def wait(self):
        assert any(line.startswith('listening on') for line in self.process.stdout), f'a silo ended with {self.process.wait()}'
        threading.Thread(target=self.process.stdout.read, daemon=True).start()  # or it would wait for us

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(90)


def call(address, method, path, body=None, **headers):
    """Status, body, and the silo that has the memory; status 0 where there was no answer."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body=body, headers={'Authorization': 'Bearer secret'} | headers)
        response = connection.getresponse()
        return response.status, response.read(), response.getheader('Infini-Silo')
    except (OSError, http.client.HTTPException) as failure:
        return 0, str(failure).encode(), None
    finally:
        connection.close()


class Client(threading.Thread):
    """Feeds memories, one text after the other, each until it was answered."""

    def __init__(self, number, memories, silos, over):
        super().__init__(daemon=True)
        self.random, self.number, self.memories, self.silos, self.over = random.Random(number), number, memories, silos, over
        self.answered = []  # memory, number of the feed, text
        self.waits = []  # when a text was sent first, and how long it took
        self.where = {}
        self.refusals = collections.Counter()
        self.failure = None

    def run(self):
        try:
            for count in itertools.count():
                if self.over.is_set():
                    return
                mine = self.memories[self.number::CLIENTS]  # before any of the others
                memory = mine[count] if count < len(mine) else self.random.choice(self.memories)
                text = f'{self.number} {count} ' + ' '.join(self.random.choices(WORDS, k=20)) + '.\n'
                key = f'{self.number}-{count}'
                begun = time.monotonic()
                feed = self.feed(memory, text, key)
                self.waits.append((begun, time.monotonic() - begun))
                self.answered.append((memory, feed, text))
                if self.random.random() < 0.1:
                    assert self.feed(memory, text, key) == feed, 'a text was read twice'
        except Exception as failure:
            self.failure = failure

    def feed(self, memory, text, key):
        end = time.monotonic() + 120
        while True:
            status, answer, where = call(self.random.choice(self.silos).address, 'POST', f'/v1/memories/{memory}/feed', text.encode(),
                                         **{'Idempotency-Key': key})
            if status == 200:
                self.where[memory] = where
                return json.loads(answer)['number']
            assert status in (0, 409, 429, 503), (status, answer)
            self.refusals[status] += 1
            assert time.monotonic() < end, ('no answer', status, answer)
            time.sleep(0.05)


def main(folder):
    postgres = server.Postgres(folder)
    ports = free_ports(6)
    model = f'{folder}/chat.gguf'
    chat_model.write(MODEL, model)
    silos = [Silo(model, postgres, *pair) for pair in zip(ports[:3], ports[3:])]
    try:
        for silo in silos:
            silo.wait()
        interface(silos)
        not_kept(silos, postgres)
        ends(silos)
        play(postgres, silos)
    finally:
        for silo in silos:
            silo.process.kill()
        postgres.stop()


def play(postgres, silos):
    memories = [f'memory{i}' for i in range(MEMORIES)]
    over = threading.Event()
    clients = [Client(i, memories, silos, over) for i in range(CLIENTS)]
    for client in clients:
        client.start()
    begun = time.monotonic()
    events = []  # when, what
    while len({memory for client in clients for memory, _, _ in client.answered}) < MEMORIES:
        assert time.monotonic() - begun < 120 + MEMORIES / 4 and not any(client.failure for client in clients), [client.failure for client in clients]
        time.sleep(0.1)
    time.sleep(SECONDS / 10)  # what the first kill must not lose is behind snapshots by then

    def happens(what, *actions):
        print(f'{time.monotonic() - begun:5.1f} s: {what}', flush=True)
        events.append((time.monotonic(), what))
        for action in actions:
            action()
    chance = random.Random(24)
    rounds = max(1, round(SECONDS / 40))
    for i in range(rounds):
        end = time.monotonic() + SECONDS / rounds
        victim, other = chance.sample(silos, 2)
        happens('a silo is killed', lambda: victim.end(signal.SIGKILL))
        time.sleep(SECONDS / rounds / 4)
        happens('one is started', victim.start, victim.wait)
        if i == rounds // 2:
            happens('the database crashes and is started', postgres.stop, lambda: time.sleep(1), postgres.start)
        time.sleep(SECONDS / rounds / 4)
        happens('a silo is stopped', lambda: other.end(signal.SIGTERM))
        assert other.process.returncode == 0, other.process.returncode
        happens('one is started', other.start, other.wait)
        time.sleep(max(0, end - time.monotonic()))
    over.set()
    for client in clients:
        client.join(150)
        assert not client.is_alive()
        if client.failure:
            raise client.failure
    report(clients, events, begun)
    check(clients, silos)


def report(clients, events, begun):
    waits = [wait for client in clients for wait in client.waits]
    took = sorted(length for _, length in waits)
    assert took[-1] < 60, took[-1]
    print(f'{len(took)} texts in {time.monotonic() - begun:.0f} s; an answer took {took[len(took) // 2] * 1000:.0f} ms in the middle, '
          f'{took[len(took) * 99 // 100] * 1000:.0f} ms at 99 of 100')
    print('refused and sent again:', dict(sum((client.refusals for client in clients), collections.Counter())))
    longest = collections.defaultdict(lambda: collections.defaultdict(float))  # of an event that came while a client waited
    for start, length in waits:
        for when, what in events:
            if start <= when < start + length:
                longest[what][when] = max(longest[what][when], length)
                break
    for what, each in longest.items():
        each = sorted(each.values())
        print(f'longest wait when {what}: {each[len(each) // 2]:.1f} s, at most {each[-1]:.1f} s of {len(each)} times')


def interface(silos):
    """Each silo answers for each memory, whichever has it."""
    def expect(wanted, silo, method, path, body=None, **headers):
        status, answer, _ = call(silo.address, method, path, body, **headers)
        assert status == wanted, (method, path, status, answer)
        return answer

    def write(silo, memory, **fields):
        return expect(200, silo, 'POST', '/v1/completions', json.dumps(
            {'prompt': 'One day', 'memory': memory, 'max_tokens': 12, 'temperature': 0, 'seed': 1} | fields).encode())
    first, second, third = silos
    expect(200, first, 'POST', '/v1/memories/lily/feed', b'Lily has a dog. The dog is big.')
    snapshot = expect(200, second, 'GET', '/v1/memories/lily')
    for name, at in ('tom', second), ('ann', third):
        expect(200, at, 'PUT', f'/v1/memories/{name}', snapshot)
    text = json.loads(write(third, 'lily'))['choices'][0]['text']
    assert text and json.loads(write(first, 'tom'))['choices'][0]['text'] == text, text
    events = [line[6:] for line in write(second, 'ann', stream=True).decode().splitlines() if line.startswith('data: ')]
    assert events[-1] == '[DONE]' and ''.join(json.loads(each)['choices'][0]['text'] for each in events[:-1]) == text, events
    assert len({expect(200, silo, 'GET', f'/v1/memories/{name}') for silo in silos for name in ('tom', 'ann')}) == 1
    before = json.loads(expect(200, third, 'POST', '/v1/memories/new/merge', b'{"memory": "lily"}'))
    assert before == {'position': 0}, before
    listed = {each['id']: each['bytes'] for each in json.loads(expect(200, first, 'GET', '/v1/memories'))['data']}
    assert listed['lily'] > 0 and {'tom', 'ann', 'new'} <= listed.keys(), listed
    note = lambda silo, name, text, wanted=200: expect(wanted, silo, 'PUT', f'/v1/memories/{name}/note', json.dumps({'note': text}).encode())
    note(third, 'lily', 'hers')
    note(first, 'nobody', 'x', 404)
    for silo in silos:
        notes = {each['id']: each['note'] for each in json.loads(expect(200, silo, 'GET', '/v1/memories'))['data']}
        assert notes['lily'] == 'hers' and notes['tom'] == '' and 'nobody' not in notes, notes

    def says(silo, *contents):
        messages = [{'role': ('user', 'assistant')[i % 2], 'content': content} for i, content in enumerate(contents)]
        answer = expect(200, silo, 'POST', '/v1/chat/completions', json.dumps({'messages': messages, 'memory': 'chat', 'max_tokens': 5}).encode())
        return json.loads(answer)['usage']['prompt_tokens']
    long = 'Lily has a dog. ' * 100
    assert says(first, long) > 400 and says(second, long, 'x', 'And Tom?') < 100 > says(third, long, 'x', 'And Tom?', 'y', 'And now?')
    for silo, name, body in (first, 'bad/feed', b'\xff'), (second, 'worse/merge', b'{"memory": "nobody"}'):  # which makes no memory
        call(silo.address, 'POST', '/v1/memories/' + name, body)
    expect(422, third, 'PUT', '/v1/memories/worst', b'no snapshot')
    for silo in silos:
        assert not {'bad', 'worse', 'worst'} & {each['id'] for each in json.loads(expect(200, silo, 'GET', '/v1/memories'))['data']}
        for name in 'bad', 'worse', 'worst':
            expect(404, silo, 'GET', '/v1/memories/' + name)
    expect(204, third, 'DELETE', '/v1/memories/tom')
    for silo in silos:
        expect(404, silo, 'GET', '/v1/memories/tom')
        expect(404, silo, 'DELETE', '/v1/memories/tom')
    assert json.loads(expect(200, second, 'POST', '/v1/memories/tom/feed', b'Tom'))['number'] == 1
    expect(400, first, 'GET', '/v1/memories/.hidden')
    expect(400, first, 'POST', '/v1/memories/lily/feed', b'\xff')
    expect(400, first, 'POST', '/v1/memories/lily/feed', b'Lily', **{'Idempotency-Key': 'k' * 201})
    expect(422, first, 'PUT', '/v1/memories/lily', b'no snapshot')
    expect(401, first, 'GET', '/v1/memories/lily', Authorization='Bearer another')


def not_kept(silos, postgres):
    """A text that the database does not take is refused, and the memory is what it was."""
    def feed(silo, text):
        status, answer, _ = call(silo.address, 'POST', '/v1/memories/full/feed', text)
        return status, json.loads(answer)
    alter = lambda how: postgres.run('psql', '-qh', postgres.folder, '-c', f'ALTER TABLE infini_feeds {how}', 'postgres')
    assert feed(silos[0], b'Lily has a dog.')[0] == 200
    alter('ADD CONSTRAINT no_more CHECK (false) NOT VALID')
    for silo in silos:
        status, answer = feed(silo, b'The dog is big.')
        assert status == 503 and answer['error']['code'] == 'not_kept', (status, answer)
    alter('DROP CONSTRAINT no_more')
    status, answer = feed(silos[1], b'The dog is big.')
    assert status == 200 and answer['number'] == 2, answer


def ends(silos):
    """A completion goes on while its silo ends, and what it wrote is at the next silo."""
    def ask(silo, tokens):
        status, answer, where = call(silo.address, 'POST', '/v1/completions', json.dumps(
            {'prompt': 'One day', 'memory': 'long', 'max_tokens': tokens, 'logit_bias': {'2': -100}}).encode())
        assert status == 200, (status, answer)
        assert json.loads(answer)['usage']['completion_tokens'] == tokens, answer[-300:]
        return where
    position = lambda silo: json.loads(call(silo.address, 'POST', '/v1/memories/long/feed', b' ')[1])['position']
    ask(silos[0], 10)
    begun = time.monotonic()
    where = ask(silos[0], 1000)
    tokens = round(8000 / (time.monotonic() - begun))  # 8 seconds of them: more than what is cut off has
    silo = next(silo for silo in silos if silo.address == where)
    before = position(silo)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, silo, tokens)
        time.sleep(1)
        silo.end(signal.SIGTERM)
        assert silo.process.returncode == 0 and answer.result() == where, silo.process.returncode
    other = next(each for each in silos if each is not silo)
    assert position(other) > before + tokens, (before, tokens)
    silo.start()
    silo.wait()


def check(clients, silos):
    feeds = collections.defaultdict(list)
    for client in clients:
        for memory, number, text in client.answered:
            feeds[memory].append((number, text))

    def verify(memory, silo):
        texts = sorted(feeds[memory])
        assert [number for number, _ in texts] == list(range(1, len(texts) + 1)), (memory, texts)
        status, snapshot, where = call(random.choice(silos).address, 'GET', f'/v1/memories/{memory}')
        assert status == 200, (status, snapshot)
        status, answer, _ = call(silo.address, 'POST', '/sessions')
        assert status == 201, (status, answer)
        twin = '/sessions/' + json.loads(answer)['id']
        for _, text in texts:
            status, answer, _ = call(silo.address, 'POST', twin + '/feed', text.encode())
            assert status == 200, (status, answer)
        status, expected, _ = call(silo.address, 'GET', twin + '/snapshot')
        assert status == 200 and snapshot == expected, f'{memory} is not what it was fed'
        call(silo.address, 'DELETE', twin)
        return where

    assert len(feeds) == MEMORIES
    with concurrent.futures.ThreadPoolExecutor(len(silos)) as pool:
        on = collections.Counter(pool.map(verify, feeds, itertools.cycle(silos)))
    assert len(on) > 1, on
    print(f'{MEMORIES} memories of {sum(map(len, feeds.values()))} texts are what they were fed: 0 lost, 0 twice; silos have', dict(on))


if server.found() is None:
    print('skipped: it needs PostgreSQL (Debian package postgresql)')
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    main(folder)
