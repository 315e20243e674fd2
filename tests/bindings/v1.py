"""What samples/SERVICES.md promises of /v1, for services.py."""
import base64
import contextlib
import http.client
import json
import pathlib
import struct
import threading
import time

from service import SOON, TOKEN, Service, answer_of


def post(service, path, expect=200, memory=None, **fields):
    headers = {'Authorization': f'Bearer {TOKEN}', 'Content-Type': 'application/json'} | ({'Infini-Memory': memory} if memory else {})
    connection = http.client.HTTPConnection('127.0.0.1', service.port, timeout=120)
    connection.request('POST', '/v1/' + path, json.dumps(fields), headers)
    response = connection.getresponse()
    data = response.read()
    assert response.status == expect, (path, fields, response.status, data[:300])
    if fields.get('stream') and expect == 200:
        assert response.headers['Content-Type'].startswith('text/event-stream')
        parts = [part.removeprefix('data: ') for part in data.decode().strip().split('\n\n') if not part.startswith(':')]
        assert parts.pop() == '[DONE]', parts
        return [json.loads(part) for part in parts]
    return json.loads(data)


def refused(service, code, kind, path, names='', **fields):
    error = post(service, path, code, **fields)['error']
    assert error['type'] == kind and error['message'] and names in error['message'], (fields, error)


def says(*contents):
    return [{'role': ('user', 'assistant')[i % 2], 'content': content} for i, content in enumerate(contents)]


def chat(service, messages, **fields):
    return post(service, 'chat/completions', **{'model': 'any', 'messages': messages, 'temperature': 0, 'max_tokens': 20} | fields)


def check_completions(service):
    models = json.loads(service.call('GET', '/v1/models'))
    assert models['object'] == 'list' and models['data'][0]['object'] == 'model', models
    whole = post(service, 'completions', prompt='One day, Lily', temperature=0, max_tokens=30)
    text = whole['choices'][0]['text']
    assert whole['object'] == 'text_completion' and text and whole['choices'][0]['finish_reason'] == 'length', whole
    assert 29 <= whole['usage']['completion_tokens'] <= 30 and whole['usage']['prompt_tokens'] > 3, whole
    assert whole['usage']['total_tokens'] == whole['usage']['prompt_tokens'] + whole['usage']['completion_tokens'], whole
    stream = post(service, 'completions', prompt=['One day, Lily'], temperature=0, max_tokens=30, stream=True,
                  stream_options={'include_usage': True})
    assert ''.join(part['choices'][0]['text'] for part in stream[:-1]) == text, (text, stream)
    assert stream[-2]['choices'][0]['finish_reason'] == 'length' and stream[-1]['usage'] == whole['usage'], stream
    stop = text[5:9]
    cut = post(service, 'completions', prompt='One day, Lily', temperature=0, max_tokens=30, stop=['no such', stop], user='ignored')
    assert cut['choices'][0]['text'] == text[:text.index(stop)] and cut['choices'][0]['finish_reason'] == 'stop', cut
    draws = [post(service, 'completions', prompt='One day', seed=seed, max_tokens=30)['choices'][0]['text'] for seed in (1, 1, (1 << 63) - 1)]
    assert draws[0] == draws[1] != draws[2], draws
    greedy = lambda **fields: post(service, 'completions', prompt='One day, Lily', max_tokens=30, **fields)['choices'][0]['text']
    assert greedy(top_p=0, temperature=1) == greedy(temperature=0, n=1) == text  # of the likeliest tokens one alone
    for fields in ({'frequency_penalty': 2}, {'presence_penalty': 2}):
        assert greedy(temperature=0, **fields) != text, fields
    biased = post(service, 'completions', prompt='One day', temperature=0, max_tokens=3, logit_bias={'300': 100})
    assert len(set(biased['choices'][0]['text'].split())) <= 1, biased
    for fields in ({'n': 2}, {'echo': True}, {'suffix': 'x'}, {'best_of': 3}, {'logprobs': 2}, {'tools': [{}]},
                   {'response_format': {'type': 'json_object'}}):
        refused(service, 400, 'invalid_request_error', 'completions', next(iter(fields)), prompt='x', **fields)
    for fields in ({}, {'prompt': 3}, {'prompt': ['a', 'b']}, {'prompt': 'x', 'temperature': 'hot'}, {'prompt': 'x', 'temperature': -1},
                   {'prompt': 'x', 'top_p': 2}, {'prompt': 'x', 'frequency_penalty': 'x'}, {'prompt': 'x', 'max_tokens': -1}, {'prompt': 'x', 'max_tokens': 1e99}, {'prompt': 'x', 'stop': 3},
                   {'prompt': 'x', 'logit_bias': {'x': 1}}, {'prompt': 'x', 'logit_bias': {'99999999': 1}}, {'prompt': 'x', 'stream': 3}):
        refused(service, 400, 'invalid_request_error', 'completions', **fields)
    for body in (b'x', b'[]', b'{} x', b'\xff', b'{"prompt": "\xff"}', b'[' * 30000):
        error = json.loads(service.call('POST', '/v1/completions', body, expect=400))['error']
        assert error['type'] == 'invalid_request_error', error
    assert json.loads(service.call('GET', '/v1/models', token='wrong', expect=401))['error']['type'] == 'authentication_error'
    service.call('GET', '/v1/nowhere', expect=404)
    service.call('GET', '/v1/completions', expect=405)
    assert service.sessions() == {}, 'a request leaves its session behind'


def check_embeddings(service):
    got = post(service, 'embeddings', input=['Lily has a dog.', 'The sun is hot.'])
    first, second = (part['embedding'] for part in got['data'])
    assert len(first) == len(second) > 10 and first != second and got['usage']['total_tokens'] > 5, got
    packed = base64.b64decode(post(service, 'embeddings', input='Lily has a dog.', encoding_format='base64')['data'][0]['embedding'])
    numbers = struct.unpack(f'<{len(packed) // 4}f', packed)
    assert len(numbers) == len(first) and max(abs(a - b) for a, b in zip(numbers, first)) < 1e-5
    for fields in ({}, {'input': []}, {'input': 3}, {'input': 'x', 'encoding_format': 'x'}, {'input': 'x', 'dimensions': 3}):
        refused(service, 400, 'invalid_request_error', 'embeddings', **fields)
    assert service.sessions() == {}


def check_leaving(service):
    """A client that goes away ends its request, whether text comes or not."""
    for fields in ({'stream': True}, {}, {'logit_bias': {'1': 10000}}):  # the last: no text
        body = json.dumps({'prompt': 'One day', 'max_tokens': 1 << 30, 'logit_bias': {'2': -100}} | fields).encode()
        with service.begin('POST', '/v1/completions', f'Content-Length: {len(body)}', body=body):
            while not service.sessions():
                pass
            session, = service.sessions()
            service.until(session, True, 20)
        deadline = threading.Event()
        for _ in range(150):
            if not service.sessions():
                break
            deadline.wait(0.02)
        assert service.sessions() == {}, 'the request goes on without its client'


def check_cancel(service):
    """A request that is cancelled says so in a way that clients know, and is not sent again by them."""
    for memory in ({}, {'memory': 'cancelled'}):
        for stream in (True, False):
            while any(busy for _, busy in service.sessions().values()):  # the one before
                time.sleep(0.02)
            body = json.dumps({'prompt': 'One day', 'max_tokens': 1 << 30, 'logit_bias': {'2': -100}, 'stream': stream} | memory).encode()
            with service.begin('POST', '/v1/completions', f'Content-Length: {len(body)}', body=body) as connection:
                if stream:
                    assert connection.recv(100)
                while not (busy := [id for id, (position, busy) in service.sessions().items() if busy and position > 10]):
                    time.sleep(0.02)
                service.call('POST', busy[0] + '/cancel', expect=204)
                if not stream:
                    response = http.client.HTTPResponse(connection)
                    response.begin()
                    error = json.loads(response.read())['error']
                    assert response.status == 409 and error['code'] == 'cancelled', error
                    assert response.headers['x-should-retry'] == 'false', response.headers
                    continue
                received = connection.recv(1 << 16)
                while b'"error"' not in received:
                    part = connection.recv(1 << 16)
                    assert part, received[-300:]
                    received += part
                assert b'cancelled' in received.partition(b'"error"')[2] and b'[DONE]' not in received, received[-300:]
                assert b'"finish_reason":"' not in received.replace(b' ', b''), received[-300:]
    service.call('DELETE', '/v1/memories/cancelled', expect=204)


def check_default(command, model, folder):
    """Memories are kept where nothing says where."""
    stem = pathlib.Path(model).stem
    for environment, kept in (({'STATE_DIRECTORY': f'{folder}/systemd:{folder}/other'}, folder / 'systemd'),
                              ({'XDG_STATE_HOME': f'{folder}/xdg'}, folder / 'xdg' / 'infini' / stem),
                              ({'XDG_STATE_HOME': '', 'HOME': f'{folder}/home'}, folder / 'home' / '.local' / 'state' / 'infini' / stem)):
        for _ in range(2):
            with Service(command, model, INFINI_STORE='', **environment) as service:
                fed = json.loads(service.call('POST', '/v1/memories/lily/feed', b'One day'))
        assert fed['position'] > 5 and (kept / 'lily.snapshot').stat().st_size > 1000, fed
    with Service(command, model, XDG_STATE_HOME=f'{folder}/xdg') as service:  # with the store "none"
        assert json.loads(service.call('GET', '/v1/memories'))['data'] == []
        service.call('POST', '/v1/memories/lily/feed', b'One day')
        entry, = json.loads(service.call('GET', '/v1/memories'))['data']
        assert entry['bytes'] > 10000, entry


def check_refused(command, model, **environment):
    """A request that is refused leaves no memory behind."""
    with Service(command, model, INFINI_MAX_SESSIONS='4', INFINI_MAX_MEMORIES='2', INFINI_MAX_PROMPT='1000', **environment) as service:
        feed = lambda name, text, expect=200: service.call('POST', f'/v1/memories/{name}/feed', text, expect=expect)
        feed('kept', b'One day')
        snapshot = service.call('GET', '/v1/memories/kept')
        for i in range(6):
            feed(f'feed{i}', b'\xff', 400)
            service.call('PUT', f'/v1/memories/put{i}', snapshot[:-1], expect=422)
            service.call('POST', f'/v1/memories/merge{i}/merge', b'{"memory": "kept", "weight": 0}', expect=400)
            service.call('POST', f'/v1/memories/merge{i}/merge', b'{"memory": "nobody"}', expect=404)
            chat(service, says('Lily has a dog. ' * 1000), memory=f'long{i}', expect=400)
            chat(service, [{'role': 'pirate', 'content': 'x'}], memory=f'role{i}', expect=400)
            for name in (f'feed{i}', f'put{i}', f'merge{i}', f'long{i}', f'role{i}'):
                service.call('GET', '/v1/memories/' + name, expect=404)
                service.call('DELETE', '/v1/memories/' + name, expect=404)
        names = lambda: [entry['id'] for entry in json.loads(service.call('GET', '/v1/memories'))['data']]
        assert names() == ['kept'], names()
        assert service.sessions().keys() <= {'/sessions/memory:kept'}, service.sessions()
        feed('second', b'One day')
        feed('third', b'One day', 429)
        assert names() == ['kept', 'second'], names()
        for session in [service.session(), service.session()]:  # all that there is room for
            service.call('DELETE', session, expect=204)
        service.call('DELETE', '/v1/memories/second', expect=204)
        feed('third', b'One day')


def check_known(first, second):
    """What a memory has read it knows again, however a client writes it, wherever it is asked, and after a request that was cut off."""
    said = 'Lily has a d\u00f6g \\ "X" \n\u2028. ' * 60
    read = chat(first, says(said), memory='known')['usage']['prompt_tokens']
    assert read > 400, read
    def ask(service, messages, ascii=True):
        body = json.dumps({'messages': messages, 'memory': 'known', 'max_tokens': 3, 'temperature': 0}, ensure_ascii=ascii,
                          indent=1 if ascii else None).encode()
        return json.loads(service.call('POST', '/v1/chat/completions', body))['usage']['prompt_tokens']
    so_far = says(said, 'a reply')
    for i, (service, ascii) in enumerate(((second, True), (first, False), (second, False), (first, True))):
        so_far += says([{'type': 'text', 'text': f'And {i}, \u00e4?'}])
        tokens = ask(service, so_far, ascii)
        assert tokens < 100, (i, tokens)
    # Clients drop old messages, and change what the system is told.
    assert ask(first, so_far[-2:] + [{'role': 'assistant', 'content': 'Her reply. ' * 100}] + says('And Ann?')) < 100
    so_far += says('And Ann?')
    for system in ('Be brief.', 'Be very brief. ' * 40):
        so_far += says('Why?')
        tokens = ask(second, [{'role': 'system', 'content': system}] + so_far)
        assert tokens < 100, tokens
    # A long message that is cut off is read again; those before it are not.
    long = {'messages': so_far + says('Tom has a cat. ' * 10000), 'memory': 'known', 'max_tokens': 3}
    begun = next(entry['tokens'] for entry in json.loads(first.call('GET', '/v1/memories'))['data'] if entry['id'] == 'known')
    body = json.dumps(long).encode()
    with first.begin('POST', '/v1/chat/completions', f'Content-Length: {len(body)}', body=body) as connection:
        first.until('/sessions/memory:known', True, begun)
        first.call('POST', '/sessions/memory:known/cancel', expect=204)
        assert answer_of(connection)[0] == 409
    tokens = ask(second, so_far + says('And then?'))
    assert tokens < 100, tokens
    first.call('DELETE', '/v1/memories/known', expect=204)


def check_notes(first, second):
    """A memory has a note, which lists show wherever they are asked, and which stays whatever it reads."""
    def note(service, text, expect=200, name='noted'):
        answer = json.loads(service.call('PUT', f'/v1/memories/{name}/note', json.dumps({'note': text}).encode(), expect=expect))
        assert expect != 200 or answer == {'note': text}, answer
    listed = lambda service, name='noted': {entry['id']: entry['note'] for entry in json.loads(service.call('GET', '/v1/memories'))['data']}[name]
    note(first, 'nobody', 404)
    chat(first, says('Lily has a dog. ' * 100), memory='noted')
    assert listed(first) == ''
    for text in ('Lily\'s \u00e4 \U0001f600 "x" ', ' a  b', 'x' * 1024):
        note(first, text)
        assert listed(first) == listed(second) == text
    note(second, 'again')
    snapshot = first.call('GET', '/v1/memories/noted')
    assert chat(first, says('Lily has a dog. ' * 100, 'x', 'And Tom?'), memory='noted')['usage']['prompt_tokens'] < 100
    first.call('POST', '/v1/memories/noted/feed', b'The sun is hot.')
    second.call('PUT', '/v1/memories/noted', snapshot)
    assert listed(first) == listed(second) == 'again'
    for wrong in (3, None, ['x'], 'x' * 1025, '\u00e4' * 513, 'a\0b'):
        note(first, wrong, 400)
    assert listed(second) == 'again'
    note(second, '')
    assert listed(first) == ''
    note(first, 'gone')
    first.call('DELETE', '/v1/memories/noted', expect=204)
    second.call('POST', '/v1/memories/noted/feed', b'The sun is hot.')
    assert listed(second) == ''
    second.call('DELETE', '/v1/memories/noted', expect=204)


def check_late(command, model):
    """A request that takes longer than it may keeps what it has read, and is not sent again by clients."""
    with Service(command, model, INFINI_MAX_SECONDS='1', INFINI_MAX_PROMPT='1000000') as service:
        connection = http.client.HTTPConnection('127.0.0.1', service.port, timeout=60)
        for memory, retry in (({}, None), ({'memory': 'late'}, 'false')):
            body = json.dumps({'messages': says('Lily has a dog. ' * 60000), 'max_tokens': 3} | memory)
            connection.request('POST', '/v1/chat/completions', body, {'Authorization': f'Bearer {TOKEN}'})
            response = connection.getresponse()
            error = json.loads(response.read())['error']
            assert response.status == 504 and error['code'] == 'timeout' and error['type'] == 'server_error', error
            assert response.headers['x-should-retry'] == retry, response.headers
        assert json.loads(service.call('GET', '/v1/memories'))['data'][0]['tokens'] > 100


def check_memories(command, model, store):
    """A memory reads only what is new, outlives the service, goes when it is deleted, and makes room for others."""
    with Service(command, model, INFINI_STORE=store.name) as service:
        def ask(*contents, **fields):
            answer = chat(service, says(*contents), memory='lily', **fields)
            return answer['choices'][0]['message']['content'], answer['usage']['prompt_tokens']
        long = 'Lily has a dog. ' * 100
        reply, read = ask(long)
        assert read > 400
        again, more = ask(long, reply, 'And Tom?')
        assert again and more < 100, more
        _, after_edit = ask(long, 'a reply that was cut', 'And Tom?', again, 'And then?')
        assert after_edit < 100, after_edit
        chat(service, says(long, reply, 'Lily has a dog. ' * 40000), memory='lily', expect=400)  # too long: nothing of it is read or forgotten
        assert ask(long, 'a reply', 'And Tom?', again, 'And then?', 'x', 'And now?')[1] < 100
        alone, other = ask('Something else')  # a client that sends no history
        assert other < 100
        for call in ('POST feed', 'POST generate', 'POST chat', 'GET snapshot', 'PUT snapshot', 'DELETE '):  # what would not be kept
            method, path = call.split(' ')
            service.refused(405, 'METHOD_NOT_ALLOWED', method, f'/sessions/memory:lily/{path}'.rstrip('/'), b'' if method != 'GET' else None)
        header = post(service, 'chat/completions', messages=says('Hello'), max_tokens=5, memory='lily')
        assert header['usage']['prompt_tokens'] < 100
        assert json.loads(service.call('GET', '/v1/memories'))['data'] == [
            {'object': 'memory', 'id': 'lily', 'bytes': store.bytes('lily'), 'note': '', 'tokens': service.sessions()['/sessions/memory:lily'][0]}]
        fed = json.loads(service.call('POST', '/v1/memories/fed/feed', 'Lily has a dog. '.encode() * 100))
        assert fed['position'] > 400 and store.bytes('fed'), fed
        service.call('DELETE', '/v1/memories/fed', expect=204)
        snapshot = service.call('GET', '/v1/memories/lily')
        service.call('PUT', '/v1/memories/tom', snapshot)
        with service.begin('PUT', '/v1/memories/.x', 'Content-Length: 1000') as connection:  # before its body is read
            assert answer_of(connection)[0] == 400
        for name in ('.x', 'a/b', '..', 'x' * 65, 'a%00', ''):
            if name != '':
                refused(service, 400, 'invalid_request_error', 'chat/completions', messages=says('x'), memory=name)
        error = json.loads(service.call('PUT', '/v1/memories/bad', snapshot[:-1], expect=422))['error']
        assert error['type'] == 'invalid_request_error', error
        ask(long, max_tokens=5)
    with Service(command, model, INFINI_STORE=store.name, INFINI_MAX_SESSIONS='1') as service:
        listed = [entry['id'] for entry in json.loads(service.call('GET', '/v1/memories'))['data']]
        assert 'lily' in listed and 'tom' in listed, listed
        answer = chat(service, says(long, 'x', 'Who has a dog?'), memory='lily')
        assert answer['usage']['prompt_tokens'] < 100, answer['usage']
        assert chat(service, says('Hello'), memory='tom')['usage']['prompt_tokens'] < 100  # lily makes room
        service.call('DELETE', '/v1/memories/lily', expect=204)
        service.call('GET', '/v1/memories/lily', expect=404)
        assert store.bytes('lily') is None


def check_turn(service):
    """Reading what is new and writing the reply is one turn of the memory: nothing of another request comes between."""
    position = lambda name: service.sessions()['/sessions/memory:' + name][0]
    book = {'messages': says('Lily has a dog. ' * 8000), 'max_tokens': 3, 'temperature': 0, 'logit_bias': {'2': -100}}
    for name in ('alone', 'turn'):
        chat(service, says('Who is Lily?'), memory=name)
    begun = position('turn')
    body = json.dumps(book | {'memory': 'turn'}).encode()
    with service.begin('POST', '/v1/chat/completions', f'Content-Length: {len(body)}', body=body) as connection:
        service.until('/sessions/memory:turn', True, begun)
        answers = []
        def other(ask):
            while True:
                try:
                    answers.append(ask())
                    return
                except AssertionError as refused:
                    assert '409' in str(refused) and 'busy' in str(refused), refused
        threads = [threading.Thread(target=other, args=(ask,)) for ask in (
            lambda: chat(service, says('And Tom?'), memory='turn')['usage']['total_tokens'],
            lambda: service.call('POST', '/v1/memories/turn/feed', b'The sun is hot.') and 0)]
        for thread in threads: thread.start()
        chat(service, says('Who is Lily?'), memory='short')  # is answered while the book is read
        assert service.sessions()['/sessions/memory:turn'][1] and not answers, answers
        status, answer = answer_of(connection)
        for thread in threads: thread.join()
    usage = answer['usage']
    assert status == 200 and usage == post(service, 'chat/completions', memory='alone', **book)['usage'], answer
    fed = position('alone')
    service.call('POST', '/v1/memories/alone/feed', b'The sun is hot.')
    assert position('turn') - begun == usage['total_tokens'] + sum(answers) + position('alone') - fed, (begun, usage, answers)
    for name in ('alone', 'turn', 'short'):
        service.call('DELETE', '/v1/memories/' + name, expect=204)


def check_merging(service):
    """What one memory holds is added to another, and taken away again; its own conversation stays."""
    merge = lambda name, expect=200, **fields: json.loads(
        service.call('POST', f'/v1/memories/{name}/merge', json.dumps(fields).encode(), expect=expect))
    feed = lambda name, text: json.loads(service.call('POST', f'/v1/memories/{name}/feed', text))['position']
    position = feed('one', b'Lily has a dog. ' * 200)
    feed('two', b'Tom is sad. The sun is hot. ' * 100)
    copy = lambda name: service.call('GET', f'/v1/memories/{name}')
    before, added = copy('one'), copy('two')
    assert merge('one', memory='two')['position'] == position
    after = copy('one')
    assert after != before and copy('two') == added
    merge('one', memory='two', weight=-1)
    assert copy('one') != after
    service.call('PUT', '/v1/memories/one', after)
    assert merge('new', memory='one', weight=0.5)['position'] == 0
    merge('two', memory='two')  # itself
    for code, name, fields in ((400, 'one', {}), (400, 'one', {'memory': 3}), (400, 'one', {'memory': 'two', 'weight': 0}),
                               (400, 'one', {'memory': 'two', 'weight': 'x'}), (400, 'one', {'memory': '../two'}),
                               (404, 'one', {'memory': 'nobody'}), (400, '.x', {'memory': 'two'})):
        assert merge(name, code, **fields)['error']['type'] == 'invalid_request_error', fields
    assert copy('one') == after
    for name in ('one', 'two', 'new'):
        service.call('DELETE', f'/v1/memories/{name}', expect=204)


def check_idle(command, model, store):
    """A memory that nobody uses leaves for the store, and comes back when it is named; a session without a name is closed, unless it
    is busy."""
    with Service(command, model, INFINI_STORE=store.name, INFINI_IDLE_SECONDS='1') as service:
        session, busy = service.session(), service.session(max_tokens=-1, ignore_end=True)
        service.feed(busy, b'One day')
        with service.generating(busy) as stream:
            def hear():
                with contextlib.suppress(OSError):
                    while stream.recv(1 << 16): pass
            threading.Thread(target=hear, daemon=True).start()
            chat(service, says('Lily has a dog. ' * 100), memory='lily')
            deadline = time.monotonic() + SOON
            while len(service.sessions()) > 1:
                assert time.monotonic() < deadline, service.sessions()
                time.sleep(0.05)
            assert service.sessions().keys() == {busy}
            service.refused(404, 'NOT_FOUND', 'POST', session + '/generate')
            service.call('DELETE', busy, expect=204)
        entry, = json.loads(service.call('GET', '/v1/memories'))['data']
        assert entry['id'] == 'lily' and entry['tokens'] is None and entry['bytes'] > 0, entry
        assert chat(service, says('Lily has a dog. ' * 100, 'x', 'And Tom?'), memory='lily')['usage']['prompt_tokens'] < 100


def check_chat(service):
    whole = chat(service, says('Who is Lily?'))
    reply = whole['choices'][0]['message']
    assert whole['object'] == 'chat.completion' and reply['role'] == 'assistant' and reply['content'], whole
    stream = chat(service, says('Who is Lily?'), stream=True)
    assert stream[0]['object'] == 'chat.completion.chunk' and stream[0]['choices'][0]['delta']['role'] == 'assistant', stream[0]
    assert ''.join(part['choices'][0]['delta'].get('content', '') for part in stream) == reply['content']
    assert stream[-1]['choices'][0]['finish_reason'] in ('length', 'stop'), stream[-1]
    nothing = chat(service, says('Who is Lily?'), stream=True, max_tokens=0)
    assert [part['choices'][0]['delta'].get('role') for part in nothing] == ['assistant', None], nothing
    parts = [{'role': 'user', 'content': [{'type': 'text', 'text': 'Who is Lily?'}], 'name': 'x'}]
    assert chat(service, parts, max_completion_tokens=20)['choices'][0]['message'] == reply
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(chat(service, says('Who is Lily?'))['choices'][0]['message'])) for _ in range(8)]
    for thread in clients: thread.start()
    for thread in clients: thread.join()
    assert answers == [reply] * 8, answers
    for messages in ([], 'x', None, [3], [{'content': 'x'}], [{'role': 'pirate', 'content': 'x'}]):
        refused(service, 400, 'invalid_request_error', 'chat/completions', messages=messages)
    assert service.sessions() == {}
