"""Lists of a Kubernetes API, and what it serves: as it was sent, page by page."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx2 as httpx

from response.kube_calls import clear_errors, insist
from response.kube_words import refusal
from response.readings import Raw, read_page, read_whole, said_by

# What kubectl asks for at a time: the server need not build one huge answer.
_PAGE = 500


class Lists:
    """What a server lists. Every method may raise ClusterError."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def raw(self, kind: Any, selector: str = "", namespace: str = "") -> list[Raw]:
        """Every object of a kind in a namespace, or in the whole cluster, that a selector of labels chooses."""
        named = kind._api_info.resource
        base = f"/apis/{named.group}/{named.version}" if named.group else f"/api/{named.version}"
        place = f"{base}/namespaces/{quote(namespace, safe='')}" if namespace else base
        doing = f"list {kind._api_info.plural}"

        def read() -> list[Raw]:
            # Pages belong together: one that came too late (410) makes all of them be read again.
            found: list[Raw] = []
            asked = {"limit": str(_PAGE), **({"labelSelector": selector} if selector else {})}
            while True:
                answer = self._http.get(f"{place}/{kind._api_info.plural}", params=asked)
                if answer.is_error:
                    raise refusal(doing, answer.status_code, said_by(answer.content))
                page = read_page(answer.content)
                found += page.items or ()
                if not page.metadata.onward:
                    return found
                asked["continue"] = page.metadata.onward

        return insist(doing, read) or []

    def whole(self, kind: Any, selector: str = "") -> list[dict[str, Any]]:
        """The same of the whole cluster as plain dictionaries."""
        listed = self.raw(kind, selector)
        with clear_errors(f"list {kind._api_info.plural}"):
            return [read_whole(raw) for raw in listed]

    def discover(self, path: str) -> dict[str, Any]:
        """The document at a path of the discovery API, empty where there is none."""

        def read() -> dict[str, Any]:
            answer = self._http.get(path)
            if answer.status_code == 404:
                return {}
            answer.raise_for_status()
            found = answer.json()
            return found if isinstance(found, dict) else {}

        return insist(f"read what the API serves at {path}", read) or {}
