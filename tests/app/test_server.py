"""The app as a server, asked by what is no browser: paths, passwords, foreign sites, floods, clients that vanish."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import psutil
import pytest

SECRET = "d3adbeef secret"
API = "gradio_api/"


class Raw:
    """Requests whose path and headers are sent as they are, over one connection."""

    def __init__(self, url: str) -> None:
        self._to = HTTPConnection(urlsplit(url).netloc, timeout=60)

    def __call__(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self._to.request(method, path, body or None, names)
        answer = self._to.getresponse()
        return answer.status, answer.read()


def asked(client: httpx.Client, url: str, name: str, data: list[Any]) -> str:
    """What an endpoint answers: its events, whether of success or of failure."""
    answer = client.post(f"{url}{API}call/{name}", json={"data": data})
    answer.raise_for_status()
    return client.get(f"{url}{API}call/{name}/{answer.json()['event_id']}", timeout=120).text


def test_no_path_leads_out_of_what_is_offered(server):
    secret = server.folder / "secret.txt"
    secret.write_text(SECRET)
    up, tried, ask = "/".join([".."] * 12), 0, Raw(server.url)
    paths = [str(secret), f"{up}{secret}", f"//{secret}", f"file://{secret}", "secret.txt", "..", "/etc/passwd"]
    paths += [f"static/{up}{secret}", f"{secret}\0.png", "/proc/self/environ", str(secret).replace("/", "\\")]
    places = ["", "static/", "assets/", "svelte/", "pwa_icon/", "theme/"]
    places += [API + name for name in ("file=", "file/", "proxy=", "stream/a/b/c/", "monitoring/")]
    places += [f"{API}custom_component/a/{side}/component/" for side in ("client", "server")]
    for place in places:
        for path in paths:
            for spelt in (quote(path, safe="/:\\"), quote(quote(path, safe=""), safe="")):
                status, content = ask(f"/{place}{spelt}")
                assert not any(inside in content for inside in (SECRET.encode(), b"root:x:", b"GRADIO_TEMP")), spelt
                assert status < 500, (place, spelt)
                tried += 1
    assert tried > 250


def test_no_parameter_of_an_endpoint_or_a_control_reaches_another_file(server):
    secret = server.folder / "secret.png"
    secret.write_text(SECRET)
    given = (str(secret), f"{server.folder}/../{server.folder.name}/secret.png#0", f"timm:resnet18@{secret}") * 9
    sent = {"path": str(secret), "orig_name": "secret.png", "meta": {"_type": "gradio.FileData"}}
    with httpx.Client(timeout=60) as client:
        offered = client.get(f"{server.url}{API}info").json()["named_endpoints"]
        assert len(offered) >= 10
        tried = 0
        for name, about in offered.items():
            fields = about["parameters"]
            for k, field in enumerate(fields):
                if "str" in field["python_type"]["type"]:
                    data = [f["parameter_default"] for f in fields]
                    data[k] = [given[k]] if "list" in field["python_type"]["type"] else given[k]
                    answer = asked(client, server.url, name.strip("/"), data)
                    assert "event: error" in answer, (name, field["parameter_name"], given[k])
                    assert SECRET not in answer
                    tried += 1
        assert tried > 40
        config = client.get(f"{server.url}config").json()
        takers = {part["id"] for part in config["components"] if part["type"] in ("uploadbutton", "file", "gallery")}
        parts = [part for part in config["dependencies"] if takers & {*part["inputs"]}]
        assert len(parts) >= 5
        for k, part in enumerate(parts):
            join = {"fn_index": part["id"], "data": [sent] * len(part["inputs"]), "session_hash": f"secret{k}"}
            assert client.post(f"{server.url}{API}queue/join", json=join).status_code == 200
            told = client.get(f"{server.url}{API}queue/data?session_hash=secret{k}", timeout=120).text
            assert '"success":false' in told
            assert SECRET not in told


def test_what_another_site_sends_is_refused(server):
    ask, join = Raw(server.url), f"/{API}queue/join"
    own = urlsplit(server.url).netloc
    body = b"{}"

    def status(**headers: str) -> int:
        return ask(join, "POST", body, content_type="application/json", **headers)[0]

    assert status() == status(origin=f"http://{own}") == status(sec_fetch_site="same-origin") == 422, "it came through"
    assert status(origin="http://evil.example") == status(origin="null") == status(sec_fetch_site="cross-site") == 403
    assert status(sec_fetch_site="same-site", origin="http://localhost:1") == 403, "of another port"
    names = ("evil.example", f"127.0.0.1.evil.example:{own.split(':')[1]}", "localhost@evil.example", "[")
    assert [ask("/", host=name)[0] for name in (*names, own, "localhost:1")] == [403] * 4 + [200] * 2


def handles(server: Any) -> tuple[int, int]:
    process = psutil.Process(server.process.pid)
    return process.num_fds(), process.num_threads()


def test_many_requests_and_clients_that_vanish_leave_nothing_behind(server):
    """Forty at once, of a hundred pages that are kept; then as many go away in the middle of it."""
    url, address = server.url, urlsplit(server.url)

    async def flood(n: int) -> list[str]:
        limits = httpx.Limits(max_connections=n, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=300, limits=limits) as client:

            async def one(i: int) -> str:
                data = {"data": []}
                event = (await client.post(f"{url}{API}call/offered", json=data)).json()["event_id"]
                return (await client.get(f"{url}{API}call/offered/{event}")).text

            return await asyncio.gather(*map(one, range(n)))

    def run(what):  # a browser test before may have a loop in this thread
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, what).result()

    assert all("plrc:tiny" in answer for answer in run(flood(110)))  # what it wants for itself it has now
    before, memory = handles(server), server.memory()
    assert all("plrc:tiny" in answer for answer in run(flood(40)))
    for i in range(40):
        with socket.create_connection((address.hostname, address.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no goodbye
            body = json.dumps({"data": [["plrc:tiny"]], "session_hash": f"gone{i}"})
            what = f"POST /{API}call/affinity HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            client.sendall(f"{what}Content-Length: {len(body)}\r\n\r\n{body[: None if i % 2 else 9]}".encode())
    with httpx.Client(timeout=60) as client:
        for i in range(20):
            join = {"data": [], "session_hash": f"left{i}", "event_id": None}
            event = client.post(f"{url}{API}call/offered", json=join).json()["event_id"]
            with client.stream("GET", f"{url}{API}call/offered/{event}"):
                pass  # and gone
        with pytest.raises(httpx.HTTPError):
            client.get(f"{url}{API}heartbeat/left", timeout=0.5)  # an open page that is closed
    deadline = time.monotonic() + 60
    while handles(server)[0] > before[0] + 5 and time.monotonic() < deadline:
        time.sleep(0.5)
    after = handles(server)
    assert after[0] <= before[0] + 5
    assert after[1] <= before[1] + 45  # workers of the thread pool, 40 at most
    assert server.memory() - memory < 100
    assert run(flood(1))


@pytest.fixture(scope="module")
def proxied(serve):
    """A server with a password below ``/plrc`` of a proxy, and that proxy's address."""
    server = serve("--checkpoint=plrc:tiny", "--auth=me:se:cret", "--root-path=/plrc")

    class Proxy(BaseHTTPRequestHandler):
        def do(self) -> None:
            if not self.path.startswith("/plrc/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
            to = HTTPConnection(urlsplit(server.url).netloc, timeout=120)
            to.request(self.command, self.path[5:], body, headers)
            answer = to.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_HEAD = do

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield server, f"http://127.0.0.1:{proxy.server_address[1]}/plrc/"
        proxy.shutdown()


def test_a_password_and_a_place_below_a_proxy(proxied):
    server, url = proxied
    server.url  # noqa: B018 # it answers
    private = (
        "config",
        f"{API}info",
        f"{API}queue/data?session_hash=a",
        f"{API}file=/etc/hostname",
        f"{API}openapi.json",
    )
    ask = Raw(server.url)
    assert [ask(f"/{path}")[0] for path in private] == [401] * len(private)
    for path in ("call/affinity", "queue/join", "upload", "run/affinity"):
        assert ask(f"/{API}{path}", "POST", b"{}", content_type="application/json")[0] == 401, path
    with httpx.Client(timeout=120, follow_redirects=True) as client:
        for wrong in ({"username": "me", "password": "secret"}, {"username": "you", "password": "se:cret"}, {}):
            assert client.post(f"{url}login", data=wrong).status_code in (400, 422)
        assert client.get(f"{url}config").status_code == 401
        assert client.post(f"{url}login", data={"username": "me", "password": "se:cret"}).status_code == 200
        page = client.get(url)
        assert page.status_code == 200
        config = client.get(f"{url}config").json()
        assert urlsplit(config["root"]).path == "/plrc"
        assert 'd="add"' not in page.text
        assert "event: complete" in asked(client, url, "offered", [])
        sent = client.post(f"{url}{API}upload", files={"files": ("a.png", b"x")}).json()[0]
        assert client.get(f"{url}{API}file={sent}").content == b"x"
    assert ask(f"/{API}file={sent}")[0] == 401, "what one has sent is not another's"


def test_what_is_too_large_is_refused_and_leaves_nothing(proxied):
    server, _ = proxied
    with httpx.Client(base_url=server.url, timeout=120) as client:
        client.post("login", data={"username": "me", "password": "se:cret"})

        def upload(megabytes: int) -> int:
            return client.post(f"{API}upload", files={"files": ("a.png", bytes(megabytes * 2**20))}).status_code

        def kept() -> int:
            return sum(file.stat().st_size for file in server.folder.glob("plrc-app-*/**/*") if file.is_file())

        before, memory = kept(), server.memory()
        assert upload(51) == upload(80) == 413
        assert kept() == before
        large = b'{"data": ["' + bytes(60 * 2**20) + b'"]}'
        assert client.post(f"{API}call/affinity", content=large).status_code == 413
        chunks = (bytes(2**20) for _ in range(80))  # of a length that nobody told
        assert client.post(f"{API}queue/join", content=chunks).status_code == 413
        assert upload(1) == 200
        assert server.memory() - memory < 200
