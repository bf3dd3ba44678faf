"""A gateway hands events to clients that show a token, publishes for those that may, and goes without losing any."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from backplane_core import Target, connect
from backplane_testservers import Broker, free_port
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.product.server.commands import backplane
from tests.product.server.gateways import SECRET, closed, gateway, token
from tests.support.sockets import attach
from tests.support.waiting import DEADLINE_S

ANN = Target.user("ann")


async def test_an_event_reaches_the_clients_of_a_token_and_one_by_http_reaches_the_pods(
    shared_broker: Broker, channel: str
) -> None:
    async with (
        connect(shared_broker.url, channel=channel) as pod,
        gateway(url=shared_broker.url, channel=channel) as served,
        served.websocket(token(backplane={"targets": ["room:42"]})) as websocket,
        served.http.stream(
            "GET", f"http://{served.address}/events", headers={"Authorization": f"Bearer {token()}"}
        ) as stream,
    ):
        assert (stream.status_code, await served.status("/readyz"), await served.status("/healthz")) == (200, 200, 200)
        lines = stream.aiter_lines()
        await anext(lines)
        socket = await attach(pod, "a", ANN)
        await pod.publish([ANN, Target("room", "42")], {"n": 1})
        await pod.publish(Target("room", "42"), {"n": 2})
        await pod.publish(Target.user("bob"), "not for her")
        async with asyncio.timeout(DEADLINE_S):
            assert [await websocket.recv() for _ in range(2)] == ['{"n":1}', '{"n":2}']
            assert [line async for line in _data(lines, 1)] == ['{"n":1}']
        status, body = await served.publish(token(backplane={"roles": ["publisher"]}), "user:ann", {"n": 3})
        assert (status, body) == (200, {"delivered": 2})
        assert await socket.has(2) == [{"n": 1}, {"n": 3}]
        metrics = (await served.http.get(f"http://{served.metrics_address}/metrics")).text
        assert 'backplane_gateway_connections{transport="websocket"} 1' in metrics
        assert await served.status("/readyz", of_metrics=True) == 200
        assert await served.status("/metrics") == 404, "the internet has no business there"


async def _data(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    while count:
        line = await anext(lines)
        if line.startswith("data: "):
            count -= 1
            yield line.removeprefix("data: ")


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


REFUSED = [
    (None, "no token"),
    ("x.y.z", "not a JWT"),
    (_part(b"[" * 4_000) + ".e30.", "not a JWT"),
    (_part(b"{}") + ".e30.", "not a JWT|algorithm|not signed"),
    (_part(b"[1]") + ".e30.", "not a JWT"),
    (token(aud="me", iss="us", exp=float("inf")), "claims are not|claim exp"),
    (token(aud="me", iss="us", sub=True), "claims are not"),
    (token("another-secret-of-thirty-two-bytes"), "not signed with a key"),
    (token(aud="me", iss="us", exp=time.time() - 60), "claim exp"),
    (token(aud="me", iss="us", exp=None), "no claim exp"),
    (token(aud="me", iss="us", nbf=time.time() + 86_400), "claim nbf"),
    (token(aud="other", iss="us"), "claim aud"),
    (token(iss="us"), "no claim aud"),
    (token(aud="me", iss="other"), "claim iss"),
    (token(aud="me", iss="us", backplane=[]), "claim backplane"),
    (token(aud="me", iss="us", backplane={"targets": "room:42"}), "backplane.targets"),
    (token(aud="me", iss="us", backplane={"targets": ["42"]}), "backplane.targets"),
    (jwt.encode({"sub": "ann", "exp": time.time() + 86_400}, "", algorithm="none"), "not signed|algorithm"),
]


async def test_a_refused_client_learns_what_is_wrong_with_its_token(redis_url: str, channel: str) -> None:
    async with gateway("--audience", "me", "--issuer", "us", url=redis_url, channel=channel) as served:
        for shown, reason in REFUSED:
            async with served.websocket(shown) as websocket:
                code, said = await closed(websocket)
            assert code == 4401, reason
            assert any(part in (said or "") for part in reason.split("|")), (reason, said)
            assert await served.publish(shown, "user:ann", 1) == (401, {"error": said}), reason


async def test_a_client_gets_and_does_what_its_token_says_and_nothing_else(redis_url: str, channel: str) -> None:
    allowed = token(backplane={"subscribe": ["room:42"], "publish": ["room:42"]})
    async with gateway(url=redis_url, channel=channel) as served, served.websocket(allowed) as websocket:
        async with asyncio.timeout(DEADLINE_S):
            for target, said in (("room:43", "refused"), ("user:bob", "refused"), ("room:42", "subscribed")):
                await websocket.send(json.dumps({"backplane": "subscribe", "target": target}))
                assert json.loads(await websocket.recv())["backplane"] == said
            assert await served.publish(allowed, "user:ann", 1) == (403, {"error": "this target is not allowed"})
            assert (await served.publish(allowed, "room:42", 2))[0] == 200
            assert await websocket.recv() == "2"
        status, body = await served.publish(token(), "user:ann", 1)
        assert status == 403
        assert "publisher" in body["error"]


async def test_a_subject_that_publishes_too_often_is_held_up_alone(redis_url: str, channel: str) -> None:
    roles = {"roles": ["publisher"]}
    async with gateway("--publish-rate", "0.001", url=redis_url, channel=channel) as served:
        assert (await served.publish(token(backplane=roles), "user:ann", 1))[0] == 200
        status, body = await served.publish(token(backplane=roles), "user:ann", 1)
        assert status == 429
        assert "per second" in body["error"]
        assert (await served.publish(token(sub="bob", backplane=roles), "user:ann", 1))[0] == 200


async def test_public_keys_are_read_again_when_their_file_changes(redis_url: str, channel: str, tmp_path: Path) -> None:
    first, second = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    curve = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "keys"
    path.write_text(_jwks({"one": first, "curve": curve}))
    async with gateway("--jwt-keys", str(path), url=redis_url, channel=channel, env={}) as served:
        roles = {"roles": ["publisher"]}

        async def status(key: Any, algorithm: str, key_id: str | None) -> int:
            shown = token(key, algorithm, backplane=roles, kid=key_id)
            return (await served.publish(shown, "user:ann", 1))[0]

        assert await status(first, "RS256", "one") == 200
        assert await status(first, "RS256", None) == 200
        assert await status(curve, "ES256", "curve") == 200
        assert await status(second, "RS256", "two") == 401
        assert await status(second, "RS256", "one") == 401
        _replace(path, _jwks({"two": second}))
        assert await status(second, "RS256", "two") == 200
        assert await status(first, "RS256", "one") == 401
        _replace(path, "{")
        assert await status(second, "RS256", "two") == 200, "a broken file leaves what was there"
        public = _pem(curve)
        _replace(path, public)
        assert await status(curve, "ES256", None) == 200
        # The public key is no secret: whoever knows it must not be able to sign with it.
        forged = _forged(public)
        assert (await served.publish(forged, "user:ann", 1))[0] == 401


def _jwks(keys: dict[str, Any]) -> str:
    listed: list[dict[str, Any]] = []
    for key_id, key in keys.items():
        name = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
        algorithm: Any = jwt.get_algorithm_by_name(name)
        listed.append({**json.loads(algorithm.to_jwk(key.public_key())), "kid": key_id, "use": "sig"})
    return json.dumps({"keys": [*listed, {"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "n": "broken"}]})


def _pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


def _forged(public: str) -> str:
    """Return a token that is signed by HS256 with a public key as the secret, which PyJWT itself refuses to do."""

    claims = {"sub": "ann", "exp": time.time() + 60, "backplane": {"roles": ["publisher"]}}
    signed = ".".join([_part(b'{"alg":"HS256","typ":"JWT"}'), _part(json.dumps(claims).encode())])
    return f"{signed}.{_part(hmac.new(public.encode(), signed.encode(), hashlib.sha256).digest())}"


def _replace(path: Path, text: str) -> None:
    """Replace a file as rotations do: by another one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


async def test_a_full_gateway_sends_clients_away_so_that_they_come_back(redis_url: str, channel: str) -> None:
    async with (
        gateway("--max-connections", "1", url=redis_url, channel=channel) as served,
        served.websocket(token()) as first,
    ):
        async with served.websocket(token()) as second:
            assert await closed(second) == (1013, "this server is full")
        headers = {"Authorization": f"Bearer {token()}"}
        stream = await served.http.get(f"http://{served.address}/events", headers=headers)
        assert stream.status_code == 200
        assert stream.text.startswith("retry: ")
        assert stream.headers["content-type"].startswith("text/event-stream")
        await first.ping()


async def test_a_signal_ends_every_client_with_a_code_and_loses_nothing(shared_broker: Broker, channel: str) -> None:
    async with (
        connect(shared_broker.url, channel=channel) as pod,
        gateway("--drain-delay", "1", "--drain-s", "1", url=shared_broker.url, channel=channel) as served,
    ):
        socket = await attach(pod, "a", ANN)
        websockets = [await served.websocket(token()) for _ in range(5)]
        headers = {"Authorization": f"Bearer {token()}"}
        async with served.http.stream("GET", f"http://{served.address}/events", headers=headers) as stream:
            for number in range(50):
                shown = token(sub=f"job-{number}", backplane={"roles": ["publisher"]})
                assert (await served.publish(shown, "user:ann", number))[0] == 200
            served.running.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_S):
                while await served.status("/readyz") == 200:
                    pass  # a request of its own each time
                assert await served.status("/healthz") == 200
                assert websockets[0].close_code is None, "not before the balancer knows"
                assert {(await closed(it))[0] for it in websockets} == {1012}
                async for _ in stream.aiter_lines():
                    pass
        ended = await served.running.ended()
        assert (ended.code, ended.err) == (0, "")
        assert await socket.has(50) == list(range(50))


async def test_in_development_a_client_says_who_it_is(redis_url: str, channel: str) -> None:
    async with (
        gateway("--insecure-dev", url=redis_url, channel=channel, env={}) as served,
        served.websocket(None, "?target=user:ann,room:1") as websocket,
    ):
        assert await served.publish(None, "room:1", 1) == (200, {"delivered": 1})
        async with asyncio.timeout(DEADLINE_S):
            assert await websocket.recv() == "1"


async def test_a_token_of_the_command_opens_a_gateway(redis_url: str, channel: str) -> None:
    env = {"BACKPLANE_SERVE_JWT_SECRET": SECRET, "BACKPLANE_SERVE_AUDIENCE": "me"}
    made = await backplane("token", "ann", "--org", "acme", "--target", "room:42", "--publisher", env=env)
    assert (made.code, made.err) == (0, "")
    async with gateway("--audience", "me", url=redis_url, channel=channel) as served:
        shown = made.out.strip()
        async with served.websocket(shown) as websocket, asyncio.timeout(DEADLINE_S):
            for number, target in enumerate(("user:ann", "org:acme", "room:42")):
                assert await served.publish(shown, target, number) == (200, {"delivered": 1})
                assert await websocket.recv() == str(number)


async def test_what_is_documented_is_there(redis_url: str, channel: str) -> None:
    async with gateway(url=redis_url, channel=channel) as served:
        document = (await served.http.get(f"http://{served.address}/openapi.json")).json()
        assert document["openapi"] == "3.1.0"
        for path, methods in document["paths"].items():
            assert list(methods) == ["post" if path == "/publish" else "get"]
            status = await served.status(path)
            assert status == {"/publish": 405, "/events": 401, "/ws": 426}.get(path, 200), path
            assert str(status) in methods[next(iter(methods))]["responses"] or status == 405
        script = await served.http.get(f"http://{served.address}/backplane.js")
        assert "export function connect" in script.text


@pytest.mark.parametrize(
    ("flags", "env", "said"),
    [
        ((), {}, "--insecure-dev"),
        ((), {"BACKPLANE_SERVE_JWT_SECRET": "s3cret"}, "32 bytes"),
        (("--jwt-keys", "nowhere"), {}, "nowhere can't be read"),
        (("--jwt-keys", "nowhere"), {"BACKPLANE_SERVE_JWT_SECRET": SECRET}, "set one of them"),
        (("--jwt-secret-file", "nowhere"), {}, "check --jwt-secret-file"),
        (("--insecure-dev", "--port", "many"), {}, "--port is not a port"),
        (("--insecure-dev",), {"BACKPLANE_SERVE_PROT": "1"}, "did you mean port?"),
        (("--insecure-dev", "--on-gap", "what"), {}, "close or frame"),
        (("--claims", "sub"), {"BACKPLANE_SERVE_JWT_SECRET": SECRET}, "sub=user"),
        (("--insecure-dev", "--origins", "app.example"), {}, "https://app.example"),
        (("--insecure-dev", "--host", "192.0.2.1"), {}, "--port"),
    ],
)
async def test_a_gateway_that_can_not_be_as_it_is_set_does_not_start(
    flags: tuple[str, ...], env: dict[str, str], said: str, tmp_path: Path
) -> None:
    ended = await backplane(
        "serve", "--port", str(free_port()), "--metrics-port", "0", *flags, env=env, folder=tmp_path
    )
    assert ended.code in {1, 2}
    assert said in ended.err
    assert "s3cret" not in ended.err
    assert "Traceback" not in ended.err


async def test_settings_of_a_gateway_stand_in_the_file_too_and_are_shown_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "backplane.toml").write_text(
        f'[serve]\njwt_secret = "{SECRET}"\nport = 1\norigins = ["https://a.example"]'
    )
    env = {"BACKPLANE_SERVE_PORT": "2"}
    shown = (await backplane("config", "--json", env=env, folder=tmp_path)).json
    found = {it["name"]: (it["text"], it["source"]) for it in shown}
    assert found["serve.port"] == ("2", "BACKPLANE_SERVE_PORT")
    assert found["serve.origins"] == ("https://a.example", "serve.origins in backplane.toml")
    assert found["serve.jwt_secret"] == ("***", "serve.jwt_secret in backplane.toml")


async def test_without_tokens_a_client_says_who_it_is_and_under_which_name_it_is_present(
    redis_url: str, channel: str
) -> None:
    async with (
        connect(redis_url, channel=channel) as pod,
        gateway("--insecure-dev", url=redis_url, channel=channel, env={}) as served,
        served.websocket(None, "?target=user:ann&name=Ann"),
        served.websocket(None, "?target=user:ann"),
    ):
        assert (await pod.fleet.presence(ANN, timeout_s=DEADLINE_S)).present == {"Ann": {"name": "Ann"}}
        async with served.websocket(None, f"?target=user:ann&name={'x' * 65}") as websocket:
            assert await closed(websocket) == (4403, "a name has at most 64 characters")
