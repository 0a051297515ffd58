"""A schema registry by its HTTP interface: schemas behind ids, and ids for our schemas.

The interface is Confluent's (``GET /schemas/ids/{id}``, ``POST /subjects/{subject}/versions``),
which other registries speak too. Two calls, made once for each schema, don't warrant a client
library with its half dozen dependencies.
"""

from __future__ import annotations

import base64
import encodings.idna  # noqa: F401 - for host names, while files of Python can still be read
import json
import threading
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from schemas import registry
from schemas.errors import SchemaError, UnknownSchema
from schemas.framing import fingerprint

ANSWER_TIMEOUT_S: Final = 5.0
_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND: Final = 404
_SERVER_FAULT: Final = 500


class RegistryAway(SchemaError):
    """The registry doesn't answer now; asking again later may help."""


class RemoteRegistry:
    """A registry. Answers are kept, for a schema never changes under its id.

    Args:
        url: ``http(s)://[user:password@]host:port[/path]``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._headers = {"Content-Type": _MEDIA_TYPE, "Accept": _MEDIA_TYPE}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        self.address = urlunsplit(
            (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")
        )
        self._fingerprints: dict[int, int] = {}
        self._lock = threading.Lock()

    def resolve(self, schema_id: int) -> int:
        """Fingerprint of the schema behind an id; goes with ``framing.unframe``.

        Raises:
            UnknownSchema: there is none, or it is not Avro.
            RegistryAway: no answer.
        """
        with self._lock:
            if schema_id not in self._fingerprints:
                found = self._ask(f"/schemas/ids/{schema_id}")
                if found.get("schemaType", "AVRO") != "AVRO":
                    msg = f"schema id {schema_id} is {found['schemaType']}, not Avro"
                    raise UnknownSchema(msg)
                self._fingerprints[schema_id] = fingerprint(json.loads(found["schema"]))
            return self._fingerprints[schema_id]

    def register(self, schema: registry.Schema, topic: str) -> int:
        """Id of one of our schemas for the messages of a topic; registered if it isn't yet.

        Raises:
            SchemaError: the registry refused it, for instance as incompatible.
            RegistryAway: no answer.
        """
        body = {"schema": json.dumps(schema.definition)}
        found = self._ask(f"/subjects/{quote(topic, safe='')}-value/versions", body)
        return int(found["id"])

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked by the settings
            self.address.rstrip("/") + path, data, self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            error.close()
            what = f"the schema registry at {self.address} answers {error.code} to {path}"
            if error.code == _NOT_FOUND and body is None:
                raise UnknownSchema(what) from error
            if error.code >= _SERVER_FAULT:
                raise RegistryAway(what) from error
            raise SchemaError(what) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            msg = f"the schema registry at {self.address} doesn't answer ({reason})"
            raise RegistryAway(msg) from error
