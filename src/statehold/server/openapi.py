"""The OpenAPI document: for each kind its own paths, with the schemas that its fields declare."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from statehold.changes import BEYOND
from statehold.commits import MOST_SUBJECTS
from statehold.config import ServerConfig
from statehold.fields import Field, Log
from statehold.schema import OP_BYTES
from statehold.server.problems import SERVER_STATUS, STATUS
from statehold.server.reading import TAIL
from statehold.state import State
from statehold.store.names import ID_BYTES

Json = dict[str, Any]

_TEXT: Final[Json] = {"type": "string"}
_NUMBER: Final[Json] = {"type": "number"}
_NO_NUMBER: Final[Json] = {"type": ["number", "null"]}
_NO_TEXT: Final[Json] = {"type": ["string", "null"]}
_REVISION: Final[Json] = {"type": "string", "pattern": r"^[0-9a-f]+\.[0-9]+$"}
_EPOCH: Final[Json] = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_ID: Final[Json] = {"type": "string", "minLength": 1, "maxLength": ID_BYTES}
_OP: Final[Json] = {"type": "string", "minLength": 1, "maxLength": OP_BYTES}

_HEX: Final = "[0-9A-Fa-f]"
_TAIL: Final = f"%[89ABab]{_HEX}"
_ENCODED: Final = "|".join(
    (
        f"%[0-7]{_HEX}",
        f"%([Cc][2-9A-Fa-f]|[Dd]{_HEX}){_TAIL}",
        f"%[Ee]0%[ABab]{_HEX}{_TAIL}",
        f"%[Ee][1-9A-CEFa-cef]{_TAIL}{_TAIL}",
        f"%[Ee][Dd]%[89]{_HEX}{_TAIL}",
        f"%[Ff]0%[9ABab]{_HEX}{_TAIL}{_TAIL}",
        f"%[Ff][1-3]{_TAIL}{_TAIL}{_TAIL}",
        f"%[Ff]4%8{_HEX}{_TAIL}{_TAIL}",
    )
)
_NAME: Final[Json] = {"type": "string", "pattern": f"^([!-$&-~]|{_ENCODED})*$"}
"""A name in a header: UTF-8, percent-encoded except for ASCII characters other than % and space."""
_LISTED: Final = f"([!-$&-+\\--~]|{_ENCODED})+"
"""One of several names, without a comma in it."""


def document(kinds: Mapping[str, type[State]], config: ServerConfig) -> Json:
    """OpenAPI 3.1 for a server of these kinds."""
    paths: Json = {}
    schemas: Json = {"Problem": _problem()}
    for kind, cls in kinds.items():
        described = _Kind(kind, cls, config)
        schemas |= described.schemas()
        paths |= described.paths()
    guarded = bool(config.keys)
    found: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "statehold",
            "version": version("statehold"),
            "description": "Typed, bounded, expiring state. Times are seconds since the epoch.",
        },
        "paths": paths | _own_paths(),
        "components": {"schemas": schemas},
    }
    if guarded:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


class _Kind:
    """The paths and schemas of one kind."""

    def __init__(self, kind: str, cls: type[State], config: ServerConfig) -> None:
        self.kind = kind
        self.title = cls.__schema__.name
        self.ttl = cls.__schema__.ttl
        self.fields: Mapping[str, Field[Any]] = cls.__schema__.fields
        self.config = config
        self.prefix = f"{kind}_"

    def _ref(self, what: str) -> Json:
        return {"$ref": f"#/components/schemas/{self.prefix}{what}"}

    def schemas(self) -> Json:
        """What is sent and answered."""
        entry = {"type": ["string", "integer"]}
        revision = {"id": _TEXT, "revision": _REVISION, "repeated": {"type": "boolean"}}
        committed = {**revision, "kind": {"const": self.kind}, "fields": self._ref("fields")}
        result = {"status": {"const": 200}}
        failed = _object(
            {**_problem()["properties"], "id": _NO_TEXT},
            ["status", "code", "id"],
        )
        state: Json = {
            "id": _TEXT,
            "kind": {"const": self.kind},
            "revision": _REVISION,
            "created": _NUMBER,
            "updated": _NUMBER,
            "expires": _NO_NUMBER,
            "age": {"type": "number", "minimum": 0},
            "subject": _NO_TEXT,
            "subjects": _list(_TEXT) | {"maxItems": MOST_SUBJECTS},
            "epoch": _EPOCH,
            "fields": self._ref("fields"),
            "missing": _list(_TEXT),
            "corrupted": _list(_object({"field": _TEXT, "entry": entry, "reason": _TEXT})),
            "newer": _list(_TEXT),
        }
        state_positions = {
            "positions": _object(
                {
                    n: _list({"type": "integer"})
                    for n, f in self.fields.items()
                    if isinstance(f, Log)
                },
                [],
            )
        }
        commit = {
            "id": _ID,
            "changes": self._ref("changes"),
            "op": _or_null(_OP),
            "since": _or_null(
                {"type": "number", "exclusiveMinimum": -1e12, "exclusiveMaximum": 1e12}
            ),
            "expect": _or_null({"anyOf": [_REVISION, {"enum": ["absent", "present"]}]}),
            "epoch": _or_null(_EPOCH),
            "subject": _or_null({"anyOf": [_ID, _list(_ID) | {"maxItems": MOST_SUBJECTS}]}),
            "ttl": _or_null(self._lifetime()),
        }
        read = {
            "ids": _list(_ID) | {"maxItems": self.config.max_batch},
            "fields": _or_null(_list({"enum": list(self.fields)})),
            "tail": _or_null({"type": "integer", "minimum": 1, "maximum": TAIL}),
            "entries": _or_null(self._keys()),
        }
        batch = {
            "commit": _list(_object(commit, ["id"])) | {"maxItems": self.config.max_batch},
            "read": _object(read, []),
        }
        results = {
            "commit": _list({"anyOf": [_object({**result, **revision}), failed]}),
            "read": _list({"anyOf": [_object({**result, **state}), failed]}),
        }
        page = {
            "kind": {"const": self.kind},
            "ids": _list(_TEXT),
            "states": _list(_object(state)),
            "cursor": _NO_TEXT,
        }
        given = {
            "fields": _object({name: _read(field) for name, field in self.fields.items()}, []),
            "changes": _object({name: _changes(field) for name, field in self.fields.items()}, []),
            "state": _object({**state, **state_positions}, [*state]),
            "committed": _object(committed, ["id", "kind", "revision"]),
            "page": _object(page, ["kind", "ids", "cursor"]),
            "batch": _object(batch, []),
            "results": _object(results),
        }
        return {f"{self.prefix}{name}": schema for name, schema in given.items()}

    def _lifetime(self) -> Json:
        found: Json = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e12}
        if self.ttl is not None:
            found |= {"maximum": self.ttl}
        return found

    def paths(self) -> Json:
        """What can be done."""
        names = {"type": "array", "items": {"enum": list(self.fields)}}
        tail = _query("tail", {"type": "integer", "minimum": 1, "maximum": TAIL})
        tail["description"] = "Maximum number of items of each list, the newest ones."
        after = _query("after", {"type": "integer", "minimum": 0, "maximum": BEYOND})
        after["description"] = "Only items of lists after this position, whatever tail says."
        limit = _query("limit", {"type": "integer", "minimum": 1, "maximum": TAIL})
        limit["description"] = (
            "Maximum number of items after that position (or 0), the oldest ones."
        )
        fields = _query("fields", names, explode=False) | {"description": "Only these fields."}
        entries: Json = {"name": "entries", "in": "query"}
        entries["content"] = {"application/json": {"schema": self._keys()}}
        entries["description"] = "Of these fields only the entries of these keys, as JSON."
        returning = _query("returning", names, explode=False)
        returning["description"] = "Answer with these fields as they stand after the commit."
        ids = {"name": "id", "in": "path", "required": True, "schema": _ID}
        tenant = _header("Statehold-Tenant", _NAME, "The tenant, percent-encoded.")
        whom = {
            "type": "string",
            "pattern": f"^(,|{_LISTED}(,{_LISTED}){{0,{MOST_SUBJECTS - 1}}})$",
        }
        subject = _header(
            "Statehold-Subject",
            whom,
            "Whom the state is about: percent-encoded, several with commas between them; a comma"
            " alone for nobody.",
        )
        epoch = _header("Statehold-Epoch", _EPOCH, "The writer's epoch: a fencing token.")
        match = _header(
            "If-Match", _TEXT, "The revision the state must be at, or *: it must exist."
        )
        fresh = _header("If-None-Match", {"const": "*"}, "*: the state must not exist.")
        newer = _header("If-None-Match", _TEXT, "304 if the state is still at this revision.")
        key = {"type": "string", "pattern": "^[!-~]([ -~]{0,126}[!-~])?$"}
        op = _header(
            "Idempotency-Key",
            key,
            "The op id: the commit is applied once, however often it is sent.",
        )
        since = _header(
            "Statehold-Since",
            {"type": "number", "minimum": 0},
            "With Idempotency-Key: when it was first sent, epoch seconds.",
        )
        ttl = _header(
            "Statehold-TTL",
            self._lifetime(),
            "How many seconds the state lives from now on, unless renewed.",
        )
        etag = {"ETag": {"schema": _TEXT, "description": "The revision."}}
        state = _answers(self._ref("state"), 404, headers=etag)
        state["304"] = {"description": "It is still at that revision."}
        gone = _answers(None, 404, 409, 412, 422)
        stream = _answers(None, 404)
        del stream["204"]
        stream["200"] = {
            "description": "Server-sent events: state, absent, problem.",
            "content": {"text/event-stream": {"schema": _TEXT}},
        }
        limit = {"type": "integer", "minimum": 1, "maximum": self.config.max_page}
        paging = [
            _query("limit", limit),
            _query("cursor", {"type": "string", "minLength": 1})
            | {"description": "The cursor of the page before."},
            _query("subject", _ID) | {"description": "Only states about this subject."},
            _query("prefix", {"type": "string", "maxLength": 512})
            | {"description": "Only states whose ids begin with this text."},
            _query("newest", {"enum": ["false", "true"]})
            | {"description": "With subject: the last updated first."},
            _query("values", {"enum": ["false", "true"]})
            | {"description": "The states as well, so far as there are any still."},
            fields,
            tail,
        ]
        commit = _answers(self._ref("committed"), 409, 412, 413, 415, 422, headers=etag)
        return {
            f"/v1/{self.kind}": {
                "get": self._does(
                    "scan", "List ids, or states", [tenant, *paging], _answers(self._ref("page"))
                )
            },
            f"/v1/{self.kind}/batch": {
                "post": self._does(
                    "batch",
                    "Commits and reads, each with a result of its own",
                    [tenant],
                    _answers(self._ref("results"), 413, 415, 422),
                    self._ref("batch"),
                )
            },
            f"/v1/{self.kind}/{{id}}": {
                "get": self._does(
                    "get",
                    "Read a state",
                    [ids, tenant, fields, tail, entries, after, limit, newer],
                    state | _problems(422),
                ),
                "delete": self._does(
                    "delete",
                    "Delete a state",
                    [ids, tenant, op, since, match, fresh, epoch],
                    gone,
                ),
            },
            f"/v1/{self.kind}/{{id}}/commit": {
                "post": self._does(
                    "commit",
                    "Change a state, all at once or not at all",
                    [
                        *(ids, tenant, returning, tail, entries),
                        *(op, since, match, fresh, epoch, subject, ttl),
                    ],
                    commit,
                    self._ref("changes"),
                )
            },
            f"/v1/{self.kind}/{{id}}/watch": {
                "get": self._does(
                    "watch", "Follow a state", [ids, tenant, fields, tail, entries], stream
                )
            },
        }

    def _keys(self) -> Json:
        """By field the keys of single entries."""
        return _object(
            {name: _list(f.key_schema()) for name, f in self.fields.items() if f.keyed}, []
        )

    def _does(
        self,
        name: str,
        summary: str,
        parameters: list[Json],
        answers: Json,
        body: Json | None = None,
    ) -> Json:
        found: Json = {
            "operationId": f"{name}_{self.kind}",
            "summary": f"{self.title}: {summary[0].lower()}{summary[1:]}",
            "tags": [self.kind],
            "parameters": parameters,
            "responses": answers,
        }
        if body is not None:
            found["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": body}},
            }
        return found


def _own_paths() -> Json:
    text = {"description": "Text", "content": {"text/plain": {"schema": _TEXT}}}
    status = _object({"status": _TEXT})
    alive = {"200": _content(status, {}), **_problems(400)}
    ready = {"200": _content(status, {}), **_problems(400, 503)}
    secured = _problems(400, 401, 403, 421)
    things = _list({"type": "object"})
    index = _object({"kinds": things, "recent": things, "max_page": {"type": "integer"}})
    tenant = _header("Statehold-Tenant", _NAME, "The tenant, percent-encoded.")
    return {
        "/healthz": {
            "get": {"summary": "The process is alive", "responses": alive, "security": []}
        },
        "/readyz": {"get": {"summary": "The store can answer", "responses": ready, "security": []}},
        "/metrics": {
            "get": {"summary": "Metrics for Prometheus", "responses": {"200": text, **secured}}
        },
        "/v1": {
            "get": {
                "summary": "The kinds, and the states last changed through this server",
                "parameters": [tenant],
                "responses": {"200": _content(index, {}), **secured},
            }
        },
    }


def _read(field: Field[Any]) -> Json:
    schema = field.json_schema()
    return _or_null(schema) if field.field == "register" else schema


def _changes(field: Field[Any]) -> Json:
    operations = field.operations()
    return _object({name: operation.schema for name, operation in operations.items()}, [])


def _problem() -> Json:
    codes = sorted({*STATUS, *SERVER_STATUS})
    scalar = {"type": ["string", "number", "boolean"]}
    properties = {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "code": {"enum": codes},
        "field": _TEXT,
        "expected": scalar,
        "found": scalar,
    }
    return _object(properties, ["type", "title", "status", "detail", "code"])


def _object(properties: Json, required: list[str] | None = None) -> Json:
    found: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    needed = list(properties) if required is None else required
    return found | ({"required": needed} if needed else {})


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _query(name: str, schema: Json, **style: Any) -> Json:
    return {"name": name, "in": "query", "schema": schema, **style}


def _header(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "header", "schema": schema, "description": description}


def _content(schema: Json, headers: Json) -> Json:
    found: Json = {"description": "Done", "content": {"application/json": {"schema": schema}}}
    return found | ({"headers": headers} if headers else {})


def _problems(*codes: int) -> Json:
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"application/problem+json": {"schema": schema}}
    titles: dict[int, list[str]] = {412: ["conflict"]}
    for code, (status, _) in {**STATUS, **SERVER_STATUS}.items():
        titles.setdefault(status, []).append(code)
    return {
        str(status): {"description": ", ".join(titles[status]), "content": content}
        for status in sorted(codes)
    }


def _answers(schema: Json | None, *errors: int, headers: Json | None = None) -> Json:
    done = (
        {"204": {"description": "Done"}}
        if schema is None
        else {"200": _content(schema, headers or {})}
    )
    return done | _problems(400, 401, 403, 404, 421, 500, 501, 503, *errors)
