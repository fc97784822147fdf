"""Submissions as Strawberry and procrastinate take them.

    serve_strawberry.py setup | api | worker

`DATABASE_URL` names the database. `api` prints its address, `worker` a line when it is ready; README.md says what is done.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import procrastinate
import psycopg
import strawberry
import uvicorn
import uvloop
from cross_web import HTTPException
from graphql import GraphQLError
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from strawberry.asgi import GraphQL
from strawberry.types import Info

CLOCK_WINDOW_SECONDS = 300
CONNECTIONS = 16


def conninfo():
    url = urlsplit(os.environ["DATABASE_URL"])
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    return psycopg.conninfo.make_conninfo(
        host=asked.get("host", url.hostname), port=asked.get("port", url.port or 5432), user=asked.get("user", url.username), dbname=url.path[1:]
    )


pool = AsyncConnectionPool(conninfo(), min_size=4, max_size=CONNECTIONS, open=False)
queue = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo(), min_size=2, max_size=CONNECTIONS))


@queue.task(name="convert")
async def convert(id):
    for statement in (
        "UPDATE conversion SET status = 'RUNNING', started_at = now() WHERE id = %s AND status = 'QUEUED'",
        "UPDATE conversion SET status = 'SUCCEEDED', finished_at = now() WHERE id = %s AND status = 'RUNNING'",
    ):
        async with pool.connection() as connection:
            await connection.execute(statement, (id,))


secrets = {}


async def secret_of(key):
    if key not in secrets:
        async with pool.connection() as connection:
            row = await (await connection.execute("SELECT secret FROM api_key WHERE id = %s", (key,))).fetchone()
        if row:
            secrets[key] = row[0].encode()
    return secrets.get(key)


async def verify(request, body):
    """The key and the nonce of a request whose signature is right; None for any other."""
    headers = request.headers
    digest, signature = headers.get("content-digest"), headers.get("signature")
    found = re.match(r"\w+=(\(([^)]*)\).*)$", headers.get("signature-input", ""))
    if not found or not digest or not signature:
        return None
    parameters, names = found.groups()
    told = dict(re.findall(r';(\w+)="?([^";]+)"?', parameters))
    if abs(time.time() - int(told.get("created", 0))) > CLOCK_WINDOW_SECONDS or "nonce" not in told:
        return None
    values = {"@method": request.method, "@path": request.url.path, "content-digest": digest}
    covered = [name.strip('"') for name in names.split()]
    secret = await secret_of(told.get("keyid"))
    if not secret or not set(values) <= set(covered):
        return None
    base = "\n".join([f'"{name}": {values[name]}' for name in covered] + [f'"@signature-params": {parameters}'])
    right = base64.b64encode(hmac.digest(secret, base.encode(), "sha256")).decode()
    if not hmac.compare_digest(signature.partition("=")[2].strip(":"), right):
        return None
    if digest != f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:":
        return None
    return {"owner": told["keyid"], "nonce": told["nonce"]}


async def use_nonce(connection, caller):
    used = await connection.execute(
        "INSERT INTO nonce VALUES (%s, %s, now() + interval '10 minutes') ON CONFLICT DO NOTHING", (caller["owner"], caller["nonce"])
    )
    if not used.rowcount:
        raise GraphQLError("The nonce was used before.", extensions={"code": "UNAUTHENTICATED"})


@strawberry.type
class Asset:
    id: strawberry.ID


@strawberry.type
class Conversion:
    id: strawberry.ID
    status: str
    source: Asset | None = None


@strawberry.type
class SubmitConversionPayload:
    conversion: Conversion


@strawberry.input
class ImageInput:
    asset_id: strawberry.ID | None = None
    base64: str | None = None


@strawberry.input
class ConversionOptionsInput:
    resolution: int | None = None


@strawberry.input
class SubmitConversionInput:
    image: ImageInput
    options: ConversionOptionsInput | None = None


@strawberry.type
class Query:
    @strawberry.field
    async def conversion(self, info: Info, id: strawberry.ID) -> Conversion | None:
        caller = info.context["caller"]
        async with pool.connection() as connection:
            await use_nonce(connection, caller)
            await connection.commit()
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute("SELECT id, status FROM conversion WHERE id = %s AND owner = %s", (id, caller["owner"]))
            row = await cursor.fetchone()
        return Conversion(**row) if row else None


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def submit_conversion(self, info: Info, input: SubmitConversionInput) -> SubmitConversionPayload:
        caller = info.context["caller"]
        options = json.dumps({"resolution": input.options.resolution} if input.options else {})
        async with pool.connection() as connection:
            await use_nonce(connection, caller)
            asset = input.image.asset_id
            if asset is None:
                picture = base64.b64decode(input.image.base64)
                inserted = await connection.execute("INSERT INTO asset (owner, picture) VALUES (%s, %s) RETURNING id", (caller["owner"], picture))
                asset = (await inserted.fetchone())[0]
            inserted = await connection.execute(
                "INSERT INTO conversion (owner, asset_id, options) SELECT owner, id, %s FROM asset WHERE id = %s AND owner = %s RETURNING id, status",
                (options, asset, caller["owner"]),
            )
            row = await inserted.fetchone()
            if row is None:
                raise GraphQLError("No such picture.", extensions={"code": "NOT_FOUND"})
            await convert.configure(connection=connection).defer_async(id=str(row[0]))
        return SubmitConversionPayload(conversion=Conversion(id=row[0], status=row[1], source=Asset(id=asset)))


class Signed(GraphQL):
    async def get_context(self, request, response):
        caller = await verify(request, await request.body())
        if caller is None:
            raise HTTPException(401, "The signature is not right.")
        return {"caller": caller}


async def setup():
    async with pool.connection() as connection:
        await connection.execute(Path(__file__).with_name("peers.sql").read_text())
    await queue.schema_manager.apply_schema_async()


async def serve():
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    view = Signed(strawberry.Schema(query=Query, mutation=Mutation), graphql_ide=None)
    # Agents keep their connection between two conversions.
    config = uvicorn.Config(view, http="httptools", lifespan="off", log_level="warning", access_log=False, timeout_keep_alive=120)
    await uvicorn.Server(config).serve(sockets=[listener])


async def work():
    print("ready", flush=True)
    await queue.run_worker_async(concurrency=CONNECTIONS - 2, install_signal_handlers=True)


async def main(role):
    async with pool, queue.open_async():
        await {"setup": setup, "api": serve, "worker": work}[role]()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
