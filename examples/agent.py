#!/usr/bin/env python3
"""An agent of orfeas: submits pictures as one batch, follows it to its end and downloads the meshes.

    agent.py --out DIR PICTURE...

ORFEAS_URL is where the server is (http://127.0.0.1:8080), ORFEAS_KEY_FILE a file with what
`orfeas keys create --name NAME --json` has printed. Each request is signed by RFC 9421 with the key's secret.

Needs Python 3.10 or newer with http-message-signatures, requests and websocket-client.
"""

import argparse
import base64
import hashlib
import json
import os
import secrets
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import requests
import websocket
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms

# How often a refused or broken request is tried again before the program gives up.
ATTEMPTS_MAX = 8
# What a server that is silent for so long is taken for. It pings every 20 s.
TIMEOUT_S = 60

SUBMIT = """
mutation Submit($input: SubmitBatchInput!) {
  submitBatch(input: $input) {
    batch { id }
    items { index conversion { id } error { code message } }
  }
}
"""

FOLLOW = """
subscription Follow($id: ID!, $after: Int) {
  batchProgress(id: $id, after: $after) { sequence progress counts { queued running succeeded failed canceled } }
}
"""

OUTPUTS = """
query Outputs($id: ID!) {
  batch(id: $id) { conversions { id status error { code message } outputs { format url sha256 } } }
}
"""


class Refused(Exception):
    """The server has refused something, for good."""

    def __init__(self, code, message, retry_after=1):
        super().__init__(f"{code}: {message}")
        self.code, self.retry_after = code, retry_after


class Agent:
    """A client that signs with one key."""

    def __init__(self, url, key):
        self.url = url.rstrip("/") + "/graphql"
        self.key_id = key["keyId"]
        # The secret's text is the HMAC key as it stands; nothing is decoded.
        keys = {self.key_id: key["secret"].encode("ascii")}
        self.signer = HTTPMessageSigner(
            signature_algorithm=algorithms.HMAC_SHA256,
            key_resolver=MappingKeyResolver(public_keys={}, private_keys=keys),
        )
        self.session = requests.Session()

    def sign(self, request, body=None):
        """Signs a prepared request. Each signature has a nonce of its own and works once."""
        covered = ["@method", "@path"]
        if urlsplit(request.url).query:
            covered.append("@query")
        # With a body, the library adds Content-Digest and covers it.
        self.signer.sign(
            request, key_id=self.key_id, nonce=secrets.token_urlsafe(16), covered_component_ids=covered, body=body
        )
        return request

    def run(self, document, variables):
        """Sends a query or a mutation and returns its data."""
        body = json.dumps({"query": document, "variables": variables}).encode()
        for attempt in range(1, ATTEMPTS_MAX + 1):
            request = requests.Request("POST", self.url, data=body, headers={"Content-Type": "application/json"})
            response = self.session.send(self.sign(request.prepare(), body), timeout=TIMEOUT_S)
            if response.status_code == 429 and attempt < ATTEMPTS_MAX:
                wait(response.headers.get("Retry-After", 1))
                continue
            answer = as_json(response)
            check(answer)
            return answer["data"]
        raise AssertionError("the last attempt returns or raises")

    def follow(self, batch_id):
        """Yields the batch's progress until it has ended; reconnects where it was."""
        after, broken = None, 0
        while True:
            try:
                for event in self.subscribe(FOLLOW, {"id": batch_id, "after": after}):
                    progress = event["batchProgress"]
                    after, broken = progress["sequence"], 0
                    yield progress
                return
            except (OSError, websocket.WebSocketException) as error:
                broken += 1
                if broken >= ATTEMPTS_MAX:
                    raise
                if isinstance(error, websocket.WebSocketBadStatusException):
                    if error.status_code != 429:
                        raise refusal(error.resp_body, f"the upgrade was answered {error.status_code}") from error
                    wait((error.resp_headers or {}).get("retry-after", 1))
                else:
                    time.sleep(min(2**broken, 30))

    def subscribe(self, document, variables):
        """Opens a WebSocket by a signed upgrade request and yields what the subscription says."""
        # The upgrade is a GET without a body; its signature covers the path as http sees it.
        signed = self.sign(requests.Request("GET", self.url).prepare())
        socket = websocket.create_connection(
            "ws" + self.url.removeprefix("http"),
            subprotocols=["graphql-transport-ws"],
            header={name: signed.headers[name] for name in ("Signature-Input", "Signature")},
            timeout=TIMEOUT_S,
        )
        payload = {"query": document, "variables": variables}
        subscribe = json.dumps({"type": "subscribe", "id": "1", "payload": payload})
        try:
            # The upgrade has said who we are, so there is no payload.
            socket.send(json.dumps({"type": "connection_init"}))
            attempt = 1
            while True:
                message = socket.recv()
                if not message:
                    raise websocket.WebSocketConnectionClosedException("the server has closed the connection")
                message = json.loads(message)
                if message["type"] == "connection_ack":
                    socket.send(subscribe)
                elif message["type"] == "ping":
                    socket.send(json.dumps({"type": "pong"}))
                elif message["type"] == "next":
                    check(message["payload"])
                    yield message["payload"]["data"]
                elif message["type"] == "error":
                    # Each operation is charged by itself, so this may be too early although the upgrade was not.
                    refused = as_refused(message["payload"][0])
                    if refused.code != "RATE_LIMITED" or attempt == ATTEMPTS_MAX:
                        raise refused
                    attempt += 1
                    wait(refused.retry_after)
                    socket.send(subscribe)
                elif message["type"] == "complete":
                    return
        finally:
            socket.close()

    def download(self, output, path):
        """Fetches a file by its URL, which needs no signature, and checks that it is whole."""
        response = self.session.get(output["url"], timeout=TIMEOUT_S)
        response.raise_for_status()
        if hashlib.sha256(response.content).hexdigest() != output["sha256"]:
            raise Refused("INTERNAL", f"{path} came damaged")
        path.write_bytes(response.content)


def check(answer):
    """Raises the first error of a GraphQL answer."""
    for error in answer.get("errors") or []:
        raise as_refused(error)


def as_refused(error):
    """A GraphQL error as an exception."""
    extensions = error.get("extensions") or {}
    return Refused(extensions.get("code", "INTERNAL"), error["message"], extensions.get("retryAfterSeconds") or 1)


def as_json(response):
    """A GraphQL answer; anything else is a refusal too."""
    try:
        return response.json()
    except ValueError:
        raise Refused("INTERNAL", f"the server answered {response.status_code}") from None


def refusal(body, otherwise):
    """An answer's first error as an exception."""
    try:
        return as_refused(json.loads(body)["errors"][0])
    except (TypeError, ValueError, LookupError):
        return Refused("INTERNAL", otherwise)


def wait(seconds):
    """Waits for as long as a refusal says. The next request is signed anew: a signature works once."""
    print(f"RATE_LIMITED: trying again in {seconds} s", file=sys.stderr)
    time.sleep(max(1, float(seconds)))


def convert(agent, pictures, out):
    """Converts the pictures; returns how many have no mesh."""
    images = [{"base64": base64.b64encode(picture.read_bytes()).decode()} for picture in pictures]
    # With its key, a submission that is sent twice is one batch.
    submission = {"images": images, "options": {"formats": ["GLB"]}, "idempotencyKey": str(uuid.uuid4())}
    submitted = agent.run(SUBMIT, {"input": submission})["submitBatch"]
    failures, places = 0, {}
    for item in submitted["items"]:
        picture = pictures[item["index"]]
        if item["error"]:
            failures += 1
            print(f"{picture}: {item['error']['code']}: {item['error']['message']}", file=sys.stderr)
        else:
            places[item["conversion"]["id"]] = picture
    if not submitted["batch"]:
        return failures

    batch_id = submitted["batch"]["id"]
    for progress in agent.follow(batch_id):
        print(f"{batch_id}: {progress['progress']:.0%}", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    for conversion in agent.run(OUTPUTS, {"id": batch_id})["batch"]["conversions"]:
        picture = places[conversion["id"]]
        if conversion["status"] != "SUCCEEDED":
            failures += 1
            error = conversion["error"] or {"code": conversion["status"], "message": "it has no mesh"}
            print(f"{picture}: {error['code']}: {error['message']}", file=sys.stderr)
            continue
        path = out / (picture.stem + ".glb")
        agent.download(next(output for output in conversion["outputs"] if output["format"] == "GLB"), path)
        print(f"{picture} -> {path}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."), help="the folder that the meshes go to")
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    arguments = parser.parse_args()
    key = json.loads(Path(os.environ["ORFEAS_KEY_FILE"]).read_text(encoding="utf-8"))
    agent = Agent(os.environ["ORFEAS_URL"], key)
    try:
        return 1 if convert(agent, arguments.pictures, arguments.out) else 0
    except (Refused, OSError, websocket.WebSocketException) as error:
        # requests' errors are OSErrors.
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
