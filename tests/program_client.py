"""A program that uses the pages as an AI application does: MCP over HTTP, one call at a time."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

MCP, INTERACT = "/_stcore/agent/mcp", "/_stcore/agent/interact"
Node = dict[str, Any]


def post(address: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Client:
    """Knows a page by its labels alone, as they stand in the last answer."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        self.n_calls = 0
        """Calls of tools so far."""
        self.page: Node = {}
        """The last answer."""
        self._address, self._headers = address + MCP, dict(headers or {})
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t"}}
        self.server = self._ask("initialize", hello)
        self.tools = {it["name"]: it for it in self._ask("tools/list", {})["tools"]}

    def go(self, page: str, **query: str) -> None:
        """Open a page."""
        self._interact(page=page, query_params={name: [text] for name, text in query.items()})

    def set(self, label: str, value: Any) -> None:
        """Change the widget of that label."""
        self._interact(widget_state={self._key(label): value})

    def press(self, label: str) -> None:
        """Press the button of that label."""
        self._interact(trigger={"key": self._key(label)})

    def look(self) -> None:
        """The page once more."""
        self._interact()

    def nodes(self, kind: str = "") -> Iterator[Node]:
        """All elements, or those of one Streamlit command, in the order of the page."""
        waiting = [self.page["tree"]]
        while waiting:
            node = waiting.pop()
            waiting += reversed(node.get("children", []))
            if not kind or node["type"] == kind:
                yield node

    def is_busy(self) -> bool:
        """Whether the page shows how far some work is."""
        return any(self.nodes("progress"))

    def table(self, *columns: str) -> list[Node]:
        """The lines of the first table that has these columns."""
        for node in self.nodes("dataframe"):
            names = [it["name"] for it in node["data"]["columns"]]
            if set(columns) <= set(names):
                rows = node["data"]["preview"]["rows"]
                return [dict(zip(names, row, strict=True)) for row in rows]
        raise AssertionError(f"No table has {columns}: {self.words()}")

    def words(self) -> str:
        """All texts of the page."""
        return json.dumps(self.page.get("tree"), ensure_ascii=False)

    def _key(self, label: str) -> str:
        known = {it.get("label"): it["key"] for it in self.page["actions"]}
        found = [key for name, key in known.items() if name and name.startswith(label)]
        assert found, f"No widget is called {label!r}; there are {sorted(filter(None, known))}"
        return str(found[0])

    def _interact(self, **arguments: Any) -> None:
        session = self.page.get("session_id")
        self.n_calls += 1
        asked = {**({"session_id": session} if session else {}), **arguments}
        done = self._ask("tools/call", {"name": "interact", "arguments": asked})
        answer = json.loads(done["content"][0]["text"])
        if "error" in answer and answer["error"]["code"] == "wait_timed_out":
            self.page["session_id"] = answer["session_id"]
            self._interact()
            return
        assert not done["isError"], answer
        self.page = answer

    def _ask(self, method: str, parameters: Node) -> Any:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        status, answer = post(self._address, message, self._headers)
        assert status == 200, answer
        assert "result" in answer, answer
        return answer["result"]
