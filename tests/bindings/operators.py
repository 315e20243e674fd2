"""What operators expect of the sample services, what samples/openapi.yaml says of them, and what must not hurt them."""
import contextlib
import http.client
import json
import pathlib
import re
import resource
import select
import socket
import time

import yaml

import many
import v1
from service import SOON, TOKEN, Service

SPECIFICATION = yaml.safe_load((pathlib.Path(__file__).parents[2] / 'samples' / 'openapi.yaml').read_text())
METHODS = ('post', 'put', 'get', 'delete')  # in the order in which an example of each can be sent


def ask(service, method, path, body=None, **headers):
    connection = http.client.HTTPConnection('127.0.0.1', service.port, timeout=30)
    connection.request(method.upper(), path, body, {'Authorization': f'Bearer {TOKEN}'} | headers)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def check_probes(command, folder):
    """Settings of a file, probes, metrics, logs without what was said, pages of other origins."""
    settings = folder / 'settings'
    settings.write_text('# of the service\nINFINI_MAX_TOKENS = 7\n\nINFINI_LOG=json\nINFINI_CORS=https://page.example, https://other.example\n')
    with Service(command, INFINI_CONFIG=str(settings), INFINI_LOG='json') as service:
        for path, status in (('/healthz', 'ok'), ('/readyz', 'ready')):
            assert json.loads(service.call('GET', path, token=None)) == {'status': status}
        service.call('GET', '/metrics', token=None, expect=401)
        before = {name: many.metric(service, name) for name in ('infini_tokens_read_total', 'infini_tokens_written_total')}
        answer = v1.post(service, 'completions', prompt='a secret word', temperature=0, logit_bias={'2': -100}, memory='hidden')
        usage = answer['usage']
        assert usage['completion_tokens'] == 7, answer
        v1.post(service, 'completions', 400)
        end = time.monotonic() + SOON  # a request is counted when all of it is done
        while many.metric(service, 'infini_requests_total{status="400"}') != 1:
            assert time.monotonic() < end
        status, headers, text = ask(service, 'get', '/metrics')
        assert status == 200 and headers['Content-Type'].startswith('text/plain'), headers
        lines = text.decode().splitlines()
        for line in lines:
            assert re.fullmatch(r'# (HELP|TYPE) (infini|process)_\w+ .+|(infini|process)_\w+({\w+="[^"]*"})? [0-9.e+-]+', line), line
        values = dict(line.rsplit(' ', 1) for line in lines if line[0] != '#')
        assert float(values['infini_tokens_read_total']) - before['infini_tokens_read_total'] == usage['prompt_tokens'], (values, usage)
        assert float(values['infini_tokens_written_total']) - before['infini_tokens_written_total'] == 7, values
        assert float(values['infini_first_token_seconds_bucket{le="+Inf"}']) == 1 == float(values['infini_first_token_seconds_count'])
        assert float(values['infini_requests_total{status="401"}']) == 1 and float(values['infini_memories']) == 1, values
        assert float(values['infini_session_bytes']) > 10000 and float(values['process_resident_memory_bytes']) > 1e6, values
        assert float(values['infini_write_tokens_per_second']) > 0 < float(values['infini_read_tokens_per_second']), values
        read = float(values['infini_tokens_read_total'])
        fed = json.loads(service.call('POST', '/v1/memories/fed/feed', b'a text that is fed'))['position']
        end = time.monotonic() + SOON
        while many.metric(service, 'infini_tokens_read_total') != read + fed:
            assert time.monotonic() < end, (read, fed)
        logged = [json.loads(line) for line in list(service.heard) if line.startswith('{')]
        written = [entry for entry in logged if entry['tokens_written'] == 7]
        assert len(written) == 1 and written[0]['path'] == '/v1/completions' and written[0]['status'] == 200, logged
        assert written[0]['level'] == 'info' and written[0]['tokens_read'] == usage['prompt_tokens'] and written[0]['time'], written
        service.call('GET', '/v1/memories/hidden')
        assert not any('secret' in line or 'hidden' in line or TOKEN in line for line in service.heard), service.heard
        assert ask(service, 'get', '/model', Origin='https://page.example')[1]['Access-Control-Allow-Origin'] == 'https://page.example'
        assert ask(service, 'get', '/model', Origin='https://evil.example')[1]['Access-Control-Allow-Origin'] is None
        connection = http.client.HTTPConnection('127.0.0.1', service.port, timeout=30)  # what a browser asks before, without a token
        connection.request('OPTIONS', '/v1/chat/completions', headers={'Origin': 'https://other.example'})
        response = connection.getresponse()
        assert response.status == 204 and 'Authorization' in response.headers['Access-Control-Allow-Headers'], response.headers
        for asked in ('authorization,content-type,x-stainless-os, x-stainless-retry-count', 'x y', 'x' * 2000):  # OpenAI's client; not so
            _, headers, _ = ask(service, 'options', '/v1/chat/completions', Origin='https://other.example',
                                **{'Access-Control-Request-Headers': asked})
            assert (headers['Access-Control-Allow-Headers'] == asked) == ('stainless' in asked), headers
    with Service(command) as service:
        assert ask(service, 'get', '/model', Origin='https://page.example')[1]['Access-Control-Allow-Origin'] is None
    for wrong in ('INFINI_QUEUE=many\n', 'what\n'):
        settings.write_text(wrong)
        try:
            Service(command, INFINI_CONFIG=str(settings))
        except AssertionError as refused:
            assert wrong.strip() in str(refused) or 'many' in str(refused) or 'line 1' in str(refused), refused
        else:
            raise AssertionError(f'{wrong} is taken')


def resolved(part):
    while isinstance(part, dict) and '$ref' in part:
        name = part['$ref'].split('/')[1:]
        part = SPECIFICATION
        for step in name:
            part = part[step]
    return part


def check_specification(command, model):
    """Each example of the specification is answered as it says; other methods and paths are refused."""
    page = pathlib.Path(__file__).parents[2] / 'samples' / 'web' / 'index.html'
    with Service(command, model, INFINI_PAGE=str(page)) as service:
        assert service.call('GET', '/', token=None) == page.read_bytes()
        session = service.session(max_tokens=5)
        service.feed(session, b'One day')
        snapshot = service.call('GET', session + '/snapshot')
        for path, operations in SPECIFICATION['paths'].items():
            here = path.replace('/sessions/{id}', session).replace('{name}', 'lily')
            for method in METHODS:
                operation = operations.get(method)
                if operation is None:
                    status, _, text = ask(service, method, here)
                    assert status == 405, (method, path, status, text[:200])
                    continue
                content = operation.get('requestBody', {}).get('content', {})
                body = next((kind.get('example', snapshot) for kind in content.values()), None)
                if isinstance(body, dict):
                    body = json.dumps(body)
                status, headers, text = ask(service, method, here, body)
                wanted = min(operation['responses'])
                assert str(status) == wanted, (method, path, status, text[:200])
                kinds = resolved(operation['responses'][wanted]).get('content', {})
                given = (headers['Content-Type'] or '').partition(';')[0]
                assert given in kinds or not kinds and not text, (method, path, given)
                if given == 'application/json':
                    schema, answer = kinds[given]['schema'], json.loads(text)
                    assert isinstance(answer, {'object': dict, 'array': list}[schema['type']]), (path, answer)
                    assert all(key in answer for key in schema.get('required', ())), (path, answer)
        for path in ('/v1', '/v1/', '/v1/chat', '/v1/engines', '/model/x', '/sessions/x/y/z', '/v1/memories/x/y', '/healthz/x', '/metrics/x'):
            for method in METHODS:
                assert ask(service, method, path)[0] == 404, (method, path)


def closed_of(service, count):
    """How many of so many connections, which say nothing, the service closes: until it has closed no further one for a second."""
    with contextlib.ExitStack() as stack:
        poll, still = select.poll(), {}
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(('127.0.0.1', service.port), timeout=30))
            still[connection.fileno()] = connection
            poll.register(connection, select.POLLIN)
        while closed := poll.poll(1000):
            for number, _ in closed:
                poll.unregister(still.pop(number))
        return count - len(still)


def resident(service):
    """Its memory in kB."""
    return int(re.search(r'VmRSS:\s+(\d+)', pathlib.Path(f'/proc/{service.process.pid}/status').read_text())[1])


def check_abuse(command):
    """What no client sends that means well: each is refused or hung up on, and costs nothing after."""
    deep = b'{"prompt": ' + b'[' * 300000
    huge = b'{"prompt": "x", "user": "' + b'y' * (2 << 20) + b'"}'
    chunks = b''.join(b'10000\r\n' + b'x' * 65536 + b'\r\n' for _ in range(40))
    head = f'Host: x\r\nAuthorization: Bearer {TOKEN}\r\n'.encode()
    request = lambda call, *lines, body=b'': call + b' HTTP/1.1\r\n' + head + b''.join(line + b'\r\n' for line in lines) + b'\r\n' + body
    post = lambda *lines, body=b'': request(b'POST /v1/completions', *lines, body=body)
    sized = lambda call, body: request(call, b'Content-Length: %d' % len(body), body=body)
    get = lambda path: b'GET ' + path + b' HTTP/1.1\r\n' + head + b'\r\n'
    calls = [b'POST /v1/' + path for path in (b'completions', b'chat/completions', b'embeddings', b'memories/x/merge')]
    bodies = {call + body[:30]: (sized(call, body), (400, 413)) for call in calls for body in (
        deep, huge, b'\xff\xfe{}', b'{"prompt": "\xed\xa0\x80"}', b'{"prompt": "x"} x', b'{"prompt": "x"}{}', b'{"prompt": "x",}',
        b'{"prompt": "x", "seed": 1e400}', b'{"prompt": "x", "max_tokens": 1' + b'0' * 5000 + b'}', b'{"prompt": "x", "max_tokens": NaN}',
        b'', b'\x00', b'null', b'{"prompt": "x", "stop": ' + b'[' * 20000 + b']' * 20000 + b'}')}
    paths = {path[:30]: (get(path), (400, 404, 405, 414, 431)) for path in (
        b'/v1//completions', b'/v1/memories/..%2f..%2f..%2fetc%2fpasswd', b'/v1/memories/%2e%2e', b'/v1/memories/a%00b', b'/sessions/%00',
        b'/v1/memories/' + b'x' * 5000, b'//etc/passwd', b'/v1/memories/%ff', b'/' + b'a/' * 9000, b'/%', b'/v1/memories/..%5c..%5cx')}
    texts = {b'feed' + text: (sized(b'POST /v1/memories/x/feed', text), (400,)) for text in (b'\xff', b'\xed\xa0\x80', b'a \xc3', b'\xc0\x80')}
    snapshots = {b'put' + data[:30]: (sized(b'PUT /v1/memories/x', data), (422,)) for data in (b'', b'x', bytes(100000), b'INFI' * 1000)}
    framing = {
        'announced too large': (post(b'Content-Length: 99999999999'), (413,)),
        'endless': (post(b'Transfer-Encoding: chunked', body=chunks), (413,)),
        'no size of a chunk': (post(b'Transfer-Encoding: chunked', body=b'zz\r\n'), (400,)),
        'size of a chunk too large': (post(b'Transfer-Encoding: chunked', body=b'f' * 40 + b'\r\n'), (400, 413)),
        'negative length': (post(b'Content-Length: -1'), (400,)),
        'two lengths': (post(b'Content-Length: 1', b'Content-Length: 2', body=b'{}'), (400,)),
        'unknown coding': (post(b'Transfer-Encoding: gzip', body=b'{}'), (400, 501)),
        'no colon': (b'GET /model HTTP/1.1\r\n' + head + b'colon\r\n\r\n', (400,)),
        'large head': (b'GET /model HTTP/1.1\r\n' + head + b'X: ' + b'x' * 100000 + b'\r\n\r\n', (400, 431)),
        'no HTTP': (b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(300) + b'\r\n\r\n', (400, 431)),
        'other version': (b'GET /model HTTP/9.9\r\n' + head + b'\r\n', (400, 505)),
        'other method': (b'FOO /model HTTP/1.1\r\n' + head + b'\r\n', (400, 405, 501)),
    }
    with Service(command, INFINI_MAX_CONNECTIONS='50') as service:
        def send():
            for name, (request, statuses) in (bodies | texts | snapshots | paths | framing).items():
                with socket.create_connection(('127.0.0.1', service.port), timeout=10) as connection:
                    try:
                        connection.sendall(request)
                    except ConnectionError:
                        pass  # it has answered, or hung up
                    try:
                        received = connection.recv(4096)
                    except ConnectionError:
                        received = b''  # before it had read all
                assert received and int(received.split()[1]) in statuses, (name, received[:300])
        send()
        before = resident(service)
        for _ in range(3):
            send()
        assert resident(service) < before + 200000, f'{before} kB grew to {resident(service)}'  # of which most is what a collector has not collected
        end = time.monotonic() + 60
        while not 25 <= (closed := closed_of(service, 80)) <= 40:  # more, while connections from before have their places
            assert time.monotonic() < end, f'{closed} of 80 connections were closed, where 50 may be open'
        end = time.monotonic() + SOON
        while True:  # the others are gone, too
            try:
                assert service.sessions() == {}
                break
            except (ConnectionError, http.client.HTTPException):
                assert time.monotonic() < end
        many.waits(service, 'infini_active_requests', 0)
    with Service(command, INFINI_HEADER_TIMEOUT='60') as service:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        count = min(10000, most - 100) if most > 0 else 10000
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, most))
        for wave in range(2):
            closed = closed_of(service, count)
            assert count - 1000 <= closed < count - 900, f'{closed} of {count} connections were closed, where 1000 may be open'
            end = time.monotonic() + 60
            while True:
                with contextlib.suppress(ConnectionError, http.client.HTTPException):
                    assert service.sessions() == {}
                    break
                assert time.monotonic() < end, 'no place is free'
            if wave == 0: before = resident(service)
        assert resident(service) < before + 200000, f'{before} kB grew to {resident(service)}'
    with Service(command, INFINI_MAX_CONNECTIONS='50', INFINI_HEADER_TIMEOUT='1') as service:
        for _ in range(2):  # clients that leave amid the head free their places
            for _ in range(80):
                with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', service.port), timeout=10) as connection:
                    connection.sendall(b'GET /model HTTP/1.1\r\nHost')
            end = time.monotonic() + 1 + SOON
            while True:
                try:
                    assert service.sessions() == {}
                    break
                except (ConnectionError, http.client.HTTPException):
                    assert time.monotonic() < end, 'no place is free'
                    time.sleep(0.1)


def check(command, folder, model):
    check_probes(command, folder)
    check_specification(command, model)
    check_abuse(command)
