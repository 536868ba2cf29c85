"""Search as an MCP tool: raw JSON-RPC over HTTP, as a language model's client sends it. Nothing else is a tool."""

import json
import urllib.request

import pytest

from tests.patience import until
from tests.serving import serve


@pytest.fixture(scope="module")
def call(tiny_memory_dir, tmp_path_factory):
    """call(method, **parameters): the JSON-RPC answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_MCP_SERVER", "True")
        with serve(tiny_memory_dir, tmp_path_factory.mktemp("mcp") / "app.log") as address:

            def call_(method, **parameters):
                body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
                headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
                request = urllib.request.Request(f"{address}gradio_api/mcp/", body.encode(), headers)
                with urllib.request.urlopen(request, timeout=60) as response:
                    return json.loads(response.read().decode().split("data: ")[-1])

            # An error, while the app starts.
            until(lambda: len(call_("tools/list").get("result", {}).get("tools", ())) == 1)
            yield call_


def test_a_client_is_greeted_and_shown_search_alone(call):
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    assert call("initialize", **client)["result"]["protocolVersion"] == "2025-06-18"
    (tool,) = call("tools/list")["result"]["tools"]
    assert tool["name"] == "search"
    assert tool["inputSchema"]["required"] == ["query"]
    assert "CLIP + FAISS" in tool["description"]


def test_search_answers_a_call(call, tiny_memory):
    result = call("tools/call", name="search", arguments={"query": "a gold bar", "top": 3})["result"]
    assert not result["isError"]
    (content,) = result["content"]
    for hit in tiny_memory.search("a gold bar", top=3)["generative"]:
        assert hit["file_name"] in content["text"]


def test_a_mistake_is_told_in_its_own_words(call):
    result = call("tools/call", name="search", arguments={"query": " "})["result"]
    assert result["isError"]
    assert result["content"][0]["text"].startswith("the query is blank:")


@pytest.mark.parametrize("name", ["memorize", "job", "memories", "nothing"])
def test_no_other_endpoint_can_be_called_as_a_tool(call, name):
    arguments = {"memories": {"action": "list"}, "job": {"id": "x"}, "memorize": {"pictures": []}}.get(name, {})
    result = call("tools/call", name=name, arguments=arguments)["result"]
    assert result["isError"]
    assert "Unknown tool" in result["content"][0]["text"]
