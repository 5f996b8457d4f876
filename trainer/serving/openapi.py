"""The description of the interface in OpenAPI 3.1, from the limits that the code has."""

from __future__ import annotations

from typing import Any

from shards.core.version import __version__
from trainer.serving.sample_request import JSON, MAX_COUNT, MAX_SEED, MAX_WORDS, PNG

_ERRORS = {
    "400": "The body is not JSON, or the request is not HTTP.",
    "401": "The token is missing or wrong.",
    "404": "There is no such path, or no page.",
    "405": "The path has no such method.",
    "406": "The Accept header names neither kind of answer.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not sent as application/json.",
    "421": "The Host header is no name of this server.",
    "422": "A field has an invalid value, or words are unknown; the message names similar ones.",
    "500": "The server failed.",
    "503": "Too many requests wait, or the server stops; try again after Retry-After seconds.",
    "504": "The images were not drawn in time.",
}
_ALWAYS = ("401", "421", "500")  # what any path may answer


def document() -> dict[str, Any]:
    """Return the description, as plain JSON values."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "cgan serve", "version": __version__, "description": "Images drawn by words."},
        "paths": {
            "/sample": {"post": _sample()},
            "/labels": {"get": _read("List the attributes and their values", JSON, _ref("Labels"))},
            "/health": {
                "get": {
                    "summary": "Say whether images are drawn; needs no token",
                    "security": [],
                    "responses": {
                        "200": _answer("It draws.", {JSON: _ref("Health")}),
                        "503": _answer("It does not draw.", {JSON: _ref("Health")}),
                        **_errors("421", "500"),
                    },
                }
            },
            "/metrics": {"get": _read("Return metrics for Prometheus", "text/plain", {"type": "string"})},
            "/openapi.json": {"get": _read("Describe this interface", JSON, {"type": "object"})},
            "/": {"get": _read("Show the playground", "text/html", {"type": "string"}, "404")},
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Only where a token was set."},
                "password": {"type": "http", "scheme": "basic", "description": "The token as password of any user."},
            },
        },
        "security": [{}, {"token": []}, {"password": []}],
    }


def _sample() -> dict[str, Any]:
    png = {"type": "string", "contentMediaType": PNG}
    refused = ("400", "406", "408", "413", "415", "422", "503", "504")
    return {
        "summary": "Draw images by words",
        "description": "The same words, count and seed give the images of `cgan sample`: as PNG one image, or a grid "
        "of several; as JSON each image by itself.",
        "requestBody": {"required": True, "content": {JSON: {"schema": _ref("SampleRequest")}}},
        "responses": {"200": _answer("The images.", {PNG: png, JSON: _ref("Sample")}), **_errors(*refused, *_ALWAYS)},
    }


def _read(summary: str, kind: str, schema: dict[str, Any], *refused: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _answer("OK", {kind: schema}), **_errors(*refused, *_ALWAYS)}}


def _answer(description: str, schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema} for kind, schema in schemas.items()}}


def _errors(*statuses: str) -> dict[str, Any]:
    answers = {status: _answer(_ERRORS[status], {JSON: _ref("Error")}) for status in sorted(statuses)}
    if "503" in answers:
        answers["503"]["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return answers


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def _schemas() -> dict[str, Any]:
    text, number, texts = {"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "string"}}
    words = {"type": "string", "maxLength": MAX_WORDS, "examples": ["blue hair, long hair", "anything"]}
    count = {"type": "integer", "minimum": 1, "maximum": MAX_COUNT, "default": 1}
    seed = {"type": "integer", "minimum": 0, "maximum": MAX_SEED, "default": 0}
    image = _object({"png": {"type": "string", "contentEncoding": "base64", "contentMediaType": PNG}, "label": texts})
    attribute = _object(
        {
            "name": text,
            "kind": {"enum": ["exclusive", "tag", "vector", "text"]},
            "values": texts,
            "width": {"type": "integer", "minimum": 1, "description": "entries of the label vector"},
        }
    )
    return {
        "SampleRequest": _object({"words": words}, {"count": count, "seed": seed}),
        "Sample": _object(
            {
                "words": text,
                "count": number,
                "seed": number,
                "images_seen": number,
                "images": {"type": "array", "items": image},
            }
        ),
        "Labels": _object(
            {
                "attributes": {"type": "array", "items": attribute},
                "synonyms": {"type": "object", "additionalProperties": text},
            }
        ),
        "Health": _object({"status": {"enum": ["ok", "failed"]}, "images_seen": number, "waiting": number}),
        "Error": _object({"error": _object({"code": text, "message": text})}),
    }
