"""The topics and events as an AsyncAPI document, generated from the event classes.

`python -m fi_stream.transport.asyncapi --write` writes `topics/asyncapi.json`; `--check` says
whether it is current. The bytes of an event are packed in each other: `x-content` names what a
field holds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic.json_schema import models_json_schema

from fi_stream.events.dead_letter import DeadLetter
from fi_stream.events.envelope import Envelope
from fi_stream.events.grant import Grant, ReaderKeys, SignedGrant
from fi_stream.events.header import VERSION, Header
from fi_stream.events.payloads import Abstain, Answer, QueryPayload, ResultPayload
from fi_stream.events.refusals import Reason
from fi_stream.events.roster import RosterVersion, SignedRoster
from fi_stream.events.sums import HalfPayload, ProposalPayload, RefusalPayload, ReleasePayload
from fi_stream.transport.catalogue import catalogue

if TYPE_CHECKING:
    from fi_stream.transport.catalogue import Topic
    from fi_stream.values import Value

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "topics" / "asyncapi.json"

_Fields = Mapping[str, Mapping[str, object]]
_MSGPACK: Final = "application/msgpack"
_SCHEMAS: Final = "#/components/schemas/"
_WRITTEN: Final[tuple[type[Value], ...]] = (
    Envelope,
    Header,
    QueryPayload,
    Answer,
    Abstain,
    ResultPayload,
    ProposalPayload,
    RefusalPayload,
    HalfPayload,
    ReleasePayload,
    SignedGrant,
    Grant,
    ReaderKeys,
    SignedRoster,
    RosterVersion,
    DeadLetter,
)
_SEALED: Final[Mapping[str, Sequence[type[Value]]]] = {
    "query": (QueryPayload,),
    "response": (Answer, Abstain),
    "proposal": (ProposalPayload, RefusalPayload),
    "half": (HalfPayload,),
    "result": (ResultPayload, ReleasePayload),
}
_CHANNELS: Final[Mapping[str, Sequence[str]]] = {
    "queries": ("query",),
    "responses": ("response",),
    "proposals": ("proposal",),
    "results": ("result",),
    "keys": ("grant", "roster"),
    "dead": ("dead_letter",),
}
_SENDS: Final[Mapping[str, Sequence[str]]] = {
    "client": ("query", "grant"),
    "participant": ("response", "grant", "dead_letter"),
    "aggregator": ("result", "proposal", "grant", "roster", "dead_letter"),
    "helper": ("result", "proposal", "grant", "dead_letter"),
}
_RECEIVES: Final[Mapping[str, Sequence[str]]] = {
    "client": ("result", "grant", "roster"),
    "participant": ("query", "grant", "roster"),
    "aggregator": ("query", "response", "proposal", "result", "grant", "roster"),
    "helper": ("response", "proposal", "grant", "roster"),
}
_FRAME: Final = (
    "AES-256-GCM, the header's bytes being the associated data. Inside: the payload's length as "
    "4 bytes, big-endian; the payload, packed; zeros."
)
_LABELS: Final = ("type", "v", "task", "query-id", "outcome", "traceparent")


def document() -> dict[str, object]:
    """The AsyncAPI document of this version."""
    topics = catalogue()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "fi_stream",
            "version": str(VERSION),
            "description": "Federated inference over an event stream: what travels on the topics.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _MSGPACK,
        "channels": {
            role: _channel(getattr(topics, role), _CHANNELS.get(role, ()))
            for role in type(topics).model_fields
        },
        "operations": {**_operations("send", _SENDS), **_operations("receive", _RECEIVES)},
        "components": {
            "messages": {name: _event(name, sealed) for name, sealed in _SEALED.items()}
            | {"grant": _grant(), "roster": _roster(), "dead_letter": _dead_letter()},
            "schemas": _schemas(),
        },
    }


def as_text() -> str:
    """The document as it stands in its file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the document, or exit with 1 when it is not current."""
    parser = argparse.ArgumentParser(prog="python -m fi_stream.transport.asyncapi")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write the file")
    what.add_argument("--check", action="store_true", help="say whether the file is current")
    parser.add_argument("--file", type=Path, default=DOCUMENT, help="by default %(default)s")
    given = parser.parse_args()
    if given.write:
        given.file.write_text(as_text(), "utf-8")
    elif not given.file.is_file() or given.file.read_text("utf-8") != as_text():
        parser.exit(1, f"{given.file} is not current; run `{parser.prog} --write`\n")


def _channel(topic: Topic, messages: Sequence[str]) -> dict[str, object]:
    return {
        "address": topic.name,
        "description": topic.holds,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {k: _setting(k, v) for k, v in topic.settings.items()},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _setting(name: str, value: str) -> object:
    # The binding wants policies as a list and sizes and times as numbers.
    if name == "cleanup.policy":
        return value.split(",")
    return int(value) if value.isdecimal() else value


def _operations(action: str, roles: Mapping[str, Sequence[str]]) -> dict[str, object]:
    channel_of = {message: channel for channel, held in _CHANNELS.items() for message in held}
    return {
        f"{role}_{action}s_{message}": {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel_of[message]}"},
            "messages": [{"$ref": f"#/channels/{channel_of[message]}/messages/{message}"}],
        }
        for role, messages in roles.items()
        for message in messages
    }


def _event(name: str, sealed: Sequence[type[Value]]) -> dict[str, object]:
    kinds = [{"$ref": _SCHEMAS + kind.__name__} for kind in sealed]
    inside: _Fields = {
        "header": _packed(Header),
        "sealed": {
            "description": _FRAME,
            "x-content": kinds[0] if len(kinds) == 1 else {"oneOf": kinds},
        },
    }
    return _message(name, Envelope, inside, "The query's id: 16 bytes, a UUID of version 7.")


def _grant() -> dict[str, object]:
    inside: _Fields = {
        "grant": _packed(Grant),
        "signature": {"description": "Ed25519 by the sender, over a fixed prefix and `grant`."},
    }
    return _message("grant", SignedGrant, inside, "The epoch's id: 16 bytes.")


def _roster() -> dict[str, object]:
    inside: _Fields = {
        "roster": _packed(RosterVersion),
        "signature": {
            "description": "Ed25519 by the federation, over a fixed prefix and `roster`."
        },
    }
    return _message("roster", SignedRoster, inside, "`roster`.")


def _dead_letter() -> dict[str, object]:
    inside: _Fields = {"reason": {"$ref": _SCHEMAS + "Reason"}}
    return _message("dead_letter", DeadLetter, inside, "The origin: topic/partition/offset.")


def _message(name: str, outside: type[Value], inside: _Fields, key: str) -> dict[str, object]:
    return {
        "name": name,
        "contentType": _MSGPACK,
        "headers": {
            "type": "object",
            "description": "For people's tools only: nothing is decided from them.",
            "properties": {label: {"type": "string"} for label in _LABELS},
        },
        "payload": {
            "allOf": [{"$ref": _SCHEMAS + outside.__name__}],
            "properties": inside,
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "format": "binary", "description": key},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _packed(kind: type[Value]) -> Mapping[str, object]:
    return {"contentMediaType": _MSGPACK, "x-content": {"$ref": _SCHEMAS + kind.__name__}}


def _schemas() -> dict[str, object]:
    _, schema = models_json_schema(
        [(kind, "validation") for kind in _WRITTEN], ref_template=_SCHEMAS + "{model}"
    )
    codes = {str(reason.code): reason.value for reason in Reason}
    reasons = {"type": "integer", "description": "Wire codes of reasons.", "x-codes": codes}
    schemas: Mapping[str, object] = schema["$defs"]
    return {name: _tidied(one) for name, one in sorted(schemas.items())} | {"Reason": reasons}


def _tidied(schema: object) -> object:
    """Without titles that only repeat names, and with bytes marked as MessagePack's `bin`."""
    if isinstance(schema, list):
        return [_tidied(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {k: _tidied(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
    if tidied.get("format") in {"binary", "base64url"}:
        tidied |= {"format": "binary", "x-msgpack": "bin"}
    return tidied


if __name__ == "__main__":
    main()
