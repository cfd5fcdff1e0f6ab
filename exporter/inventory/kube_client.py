"""List and watch of the Kubernetes API: plain documents, bounded, with errors that say what to do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import orjson
import yaml
from lightkube import KubeConfig
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.core.exceptions import ConfigError

from exporter.inventory.settings import InventorySettings
from exporter.inventory.source import InventoryProblem

GONE = 410
_LINE_BYTES = 8 << 20  # an object is at most 1.5 MiB in the store; as JSON with all escapes it may be a few times that
# The configuration's shape is not checked by its reader: a wrong one surfaces as any of these.
_CONFIG_ERRORS = (ConfigError, OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, yaml.YAMLError)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_REMEDIES = {
    401: "give a kubeconfig with a valid token or certificate",
    403: "grant the role that docs/inventory.md lists",
    404: "the API server does not serve this kind",
}
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"


class ApiFailure(Exception):
    """A request that was not answered as hoped; ``code`` is HTTP's, 0 where there was no answer."""

    def __init__(self, doing: str, code: int, reason: str) -> None:
        remedy = f" ({_REMEDIES[code]})" if code in _REMEDIES else ""
        super().__init__(_CONTROL.sub(" ", f"cannot {doing}: {reason}{remedy}")[:500])
        self.code = code


class KubeClient:
    """Reads the API as a kubeconfig says; used inside one event loop."""

    def __init__(self, settings: InventorySettings, kubeconfig: Path | None = None, context: str | None = None) -> None:
        """Raises InventoryProblem for a kubeconfig that cannot be used.

        Without a path: the service account inside a cluster, else KUBECONFIG, else ~/.kube/config.
        """
        name = str(kubeconfig) if kubeconfig is not None else "the kubeconfig of the environment"
        self._settings = settings
        try:
            config = KubeConfig.from_file(kubeconfig) if kubeconfig is not None else KubeConfig.from_env()
            chosen = config.get(context)
            if chosen is None:
                problem = f"there is no context {context}"
                raise ConfigError(problem)
            self._http = AsyncClient(chosen, ConnectionParams(timeout=httpx.Timeout(settings.request_s)))
        except _CONFIG_ERRORS as error:
            message = _CONTROL.sub(" ", f"{name} cannot be used: {error}")[:500]
            raise InventoryProblem(message) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def pages(self, path: str) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        """Return the objects of a collection page by page, each with the list's version.

        Raises:
            ApiFailure: a page cannot be had; 410 where the server forgot the list between two pages.
        """
        more: dict[str, Any] = {"limit": self._settings.page_objects}
        while True:
            page = await self._read(path, more, f"list {_plural(path)}")
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], str(metadata.get("resourceVersion") or "")
            if not metadata.get("continue"):
                return
            more["continue"] = metadata["continue"]

    async def metadata(self, path: str) -> dict[str, Any]:
        """Return one object without its spec and status. Raises ApiFailure."""
        return await self._read(path, {}, f"get {_plural(path)}", {"Accept": _METADATA})

    async def _read(
        self, path: str, parameters: dict[str, Any], doing: str, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        with _ClearErrors(doing):
            answer = await self._http.get(path, params=parameters, headers=headers)
            if answer.status_code != httpx.codes.OK:
                raise ApiFailure(doing, answer.status_code, _reason(answer.content, answer.status_code))
            document = orjson.loads(answer.content)
            if not isinstance(document, dict):
                raise ApiFailure(doing, 0, "the answer is no object")
        return document

    @asynccontextmanager
    async def watch(self, path: str, version: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open a watch from a version on; gives its events until the server closes it.

        Raises:
            ApiFailure: it is refused, breaks, or says nothing for ``silence_s``; 410 where the version is too old.
        """
        doing, settings = f"watch {_plural(path)}", self._settings
        parameters: dict[str, Any] = {
            "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": settings.watch_s,
        }  # fmt: skip
        with _ClearErrors(doing):
            timeout = httpx.Timeout(settings.request_s, read=settings.silence_s)
            async with self._http.stream("GET", path, params=parameters, timeout=timeout) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise ApiFailure(doing, answer.status_code, _reason(await answer.aread(), answer.status_code))
                yield _events(answer.aiter_bytes(), doing)


async def _events(chunks: AsyncIterator[bytes], doing: str) -> AsyncIterator[dict[str, Any]]:
    """Split a stream into events, one a line."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise ApiFailure(doing, 0, f"an event of more than {_LINE_BYTES} bytes")
        for line in lines:
            if line:
                yield _event(line, doing)


def _event(line: bytes, doing: str) -> dict[str, Any]:
    event = orjson.loads(line)
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise ApiFailure(doing, 0, "an event without an object")
    if event.get("type") == "ERROR":
        status = event["object"]
        code = status.get("code")
        raise ApiFailure(doing, code if isinstance(code, int) else 0, str(status.get("message") or "error event"))
    return event


class _ClearErrors:
    """Turns what the transport raises into an ApiFailure."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.HTTPError):
            text = f"{str(error) or type(error).__name__} (is the API server reachable, and its certificate trusted?)"
            raise ApiFailure(self._doing, 0, text) from None
        if isinstance(error, ConfigError | OSError | ValueError) and not isinstance(error, asyncio.CancelledError):
            raise ApiFailure(self._doing, 0, str(error) or type(error).__name__) from None


def _reason(body: bytes, code: int) -> str:
    try:
        return str(orjson.loads(body)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"status {code}"


def _plural(path: str) -> str:
    parts = path.strip("/").split("/")
    return parts[-2] if "namespaces" in parts[:-1] else parts[-1]
