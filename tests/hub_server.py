"""A hub on this machine: the endpoints of huggingface.co that pushing and pulling ask, over real HTTP.

Repositories of models with commits, large files by the LFS protocol, private ones, tokens that may write or only read.
`with Hub() as hub:` serves at `hub.address`; a test reads and changes its state from outside, and makes it fail.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import yaml

LARGE = ("*.safetensors", "*.faiss", "*.png", "*.jpg")
"""What the hub keeps as large files, as the .gitattributes of a new repository say."""
LICENSES = ("apache-2.0", "mit", "cc-by-4.0", "unknown", "other")
MODEL_ID = re.compile(r"[\w.-]+/[\w.-]+")
NOT_FOUND = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, {"X-Error-Message": message, **(headers or {})}


@dataclass
class Repository:
    """Its commits, oldest first: (hash, summary, path → blob)."""

    private: bool
    commits: list[tuple[str, str, dict[str, bytes]]] = field(default_factory=list)

    def commit(self, summary: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(f"{len(self.commits)} {summary}".encode()).hexdigest()
        self.commits.append((oid, summary, files))
        return oid

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][2]

    def at(self, revision: str) -> dict[str, bytes]:
        found = (files for oid, _, files in self.commits if revision in ("main", oid) or revision == oid)
        return self.files if revision == "main" else next(found)


class Hub:
    """The server. `tokens`: token → (name, "write" or "read"); names have repositories of their own."""

    def __init__(self) -> None:
        self.tokens = {"hf_alice": ("alice", "write"), "hf_reader": ("alice", "read"), "hf_bob": ("bob", "write")}
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        """"METHOD path" of every request"""
        self.fails: Callable[[str, str], None] = lambda method, path: None
        """called before each request; raises RefusedError, or ConnectionError to hang up in the middle of it"""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def sent(self, kind: str) -> list[str]:
        """The requests of a kind: part of "METHOD path"."""
        return [line for line in self.asked if kind in line]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        try:
            try:
                self.hub.fails(self.command, path)
            except ConnectionError:
                self.rfile.read(length // 2)
                self.close_connection = True
                return
            body = self.rfile.read(length)
            for method, pattern, answer in ROUTES:
                if method == self.command.replace("HEAD", "GET") and (match := re.fullmatch(pattern, path)):
                    self._send(200, *answer(self, *match.groups(), body))
                    return
            raise RefusedError(404, f"no route for {self.command} {path}")
        except RefusedError as refusal:
            with suppress(OSError):
                self._send(refusal.status, json.dumps({"error": str(refusal)}).encode(), refusal.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _who(self) -> tuple[str, str]:
        """(name, role) of the token that came along; ("", "") where none did."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return self.hub.tokens.get(token, ("", ""))

    def _repository(self, id: str, to_write: bool = False) -> Repository:
        name, role = self._who()
        repository, own = self.hub.repositories.get(id), id.split("/")[0] == name
        if repository is None or (repository.private and not own):
            raise RefusedError(404 if name else 401, "Repository not found", NOT_FOUND)
        if to_write and not (own and role == "write"):
            raise RefusedError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return repository

    def whoami(self, body: bytes) -> tuple[bytes]:
        name, role = self._who()
        if not name:
            raise RefusedError(401, "Invalid username or password.")
        return _json({"type": "user", "name": name, "orgs": [], "auth": {"accessToken": {"role": role}}})

    def create(self, body: bytes) -> tuple[bytes]:
        given, (name, role) = json.loads(body), self._who()
        owner = given.get("organization") or name
        id = f"{owner}/{given['name']}"
        if owner != name or role != "write":
            raise RefusedError(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if id in self.hub.repositories:
            raise RefusedError(409, "You already created this model repo")
        private = given.get("private") or given.get("visibility") == "private"
        self.hub.repositories[id] = repository = Repository(bool(private))
        repository.commit("initial commit", {".gitattributes": "".join(f"{p} filter=lfs\n" for p in LARGE).encode()})
        return _json({"url": f"{self.hub.address}/{id}", "name": id, "id": "0"})

    def info(self, id: str, revision: str | None, body: bytes) -> tuple[bytes]:
        repository = self._repository(id)
        files = repository.at(revision or "main")
        facts = {"id": id, "modelId": id, "private": repository.private, "tags": [], "downloads": 0, "likes": 0}
        return _json(facts | {"sha": repository.head, "siblings": [{"rfilename": path} for path in sorted(files)]})

    def tree(self, id: str, revision: str, body: bytes) -> tuple[bytes]:
        files = self._repository(id).at(revision)
        return _json([_entry(path, blob) for path, blob in sorted(files.items())])

    def history(self, id: str, revision: str, body: bytes) -> tuple[bytes]:
        commits = [
            {"id": oid, "title": summary, "message": "", "authors": [], "date": "2026-01-01T00:00:00.000Z"}
            for oid, summary, _ in reversed(self._repository(id).commits)
        ]
        return _json(commits)

    def settings(self, id: str, body: bytes) -> tuple[bytes]:
        given, repository = json.loads(body), self._repository(id, to_write=True)
        repository.private = given.get("private", given.get("visibility") == "private")
        return _json({"private": repository.private})

    def validate(self, body: bytes) -> tuple[bytes]:
        errors = [{"message": words} for words in _faults(json.loads(body)["content"])]
        if errors:
            raise RefusedError(400, errors[0]["message"])
        return _json({"errors": [], "warnings": []})

    def preupload(self, id: str, revision: str, body: bytes) -> tuple[bytes]:
        files = self._repository(id, to_write=True).files

        def mode(path: str) -> dict[str, Any]:
            large = any(fnmatchcase(path, kind) for kind in LARGE)
            known = _oid(path, files[path]) if path in files else None
            return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": known}

        return _json({"files": [mode(file["path"]) for file in json.loads(body)["files"]]})

    def batch(self, id: str, body: bytes) -> tuple[bytes]:
        self._repository(id, to_write=True)
        objects = [{"oid": wanted["oid"], "size": wanted["size"]} for wanted in json.loads(body)["objects"]]
        for wanted in objects:
            if wanted["oid"] not in self.hub.large:
                wanted["actions"] = {"upload": {"href": f"{self.hub.address}/large/{wanted['oid']}"}}
        return _json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str, body: bytes) -> tuple[bytes]:
        if hashlib.sha256(body).hexdigest() != oid:
            raise RefusedError(400, "the content is not what its name says")
        self.hub.large[oid] = body
        return _json({})

    def commit(self, id: str, revision: str, body: bytes) -> tuple[bytes]:
        repository = self._repository(id, to_write=True)
        header, *operations = map(json.loads, body.splitlines())
        if header["value"].get("parentCommit") not in (None, repository.head):
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.files)
        for operation in operations:
            match operation["key"], operation["value"]:
                case "file", value:
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile", value:
                    if value["oid"] not in self.hub.large:
                        raise RefusedError(400, f"{value['path']}: the large file was never uploaded")
                    files[value["path"]] = self.hub.large[value["oid"]]
                case "deletedFile", value:
                    del files[value["path"]]
                case key, _:
                    raise RefusedError(400, f"unknown operation {key}")
        oid = repository.commit(header["value"]["summary"], files)
        url = f"{self.hub.address}/{id}/commit/{oid}"
        return _json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def resolve(self, id: str, revision: str, path: str, body: bytes) -> tuple[bytes, dict[str, str]]:
        repository = self._repository(id)
        files = repository.at(revision)
        if path not in files:
            raise RefusedError(404, "Entry not found", {"X-Error-Code": "EntryNotFound"})
        oid = f'"{_oid(path, files[path])}"'
        commit = repository.head if revision == "main" else revision
        return files[path], {"ETag": oid, "X-Repo-Commit": commit, "Content-Type": "application/octet-stream"}


ID = r"([\w.-]+/[\w.-]+)"
ROUTES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("GET", f"/api/models/{ID}(?:/revision/(.+))?", _Handler.info),
    ("GET", f"/api/models/{ID}/tree/([^/]+)/?", _Handler.tree),
    ("GET", f"/api/models/{ID}/commits/([^/]+)", _Handler.history),
    ("PUT", f"/api/models/{ID}/settings", _Handler.settings),
    ("POST", f"/api/models/{ID}/preupload/(.+)", _Handler.preupload),
    ("POST", f"/{ID}\\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/large/([0-9a-f]{64})", _Handler.upload),
    ("POST", f"/api/models/{ID}/commit/(.+)", _Handler.commit),
    ("GET", f"/{ID}/resolve/([^/]+)/(.+)", _Handler.resolve),
)


def _json(answer: Any) -> tuple[bytes]:
    return (json.dumps(answer).encode(),)


def _oid(path: str, blob: bytes) -> str:
    if any(fnmatchcase(path, kind) for kind in LARGE):
        return hashlib.sha256(blob).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()


def _entry(path: str, blob: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(blob), "oid": _oid(path, blob)}
    if any(fnmatchcase(path, kind) for kind in LARGE):
        entry["lfs"] = {"oid": _oid(path, blob), "size": len(blob), "pointerSize": 130}
    return entry


def _faults(card: str) -> list[str]:
    """What the hub would refuse of a model card's front matter."""
    if not card.startswith("---\n"):
        return []
    try:
        facts = yaml.safe_load(card.split("---\n")[1])
    except yaml.YAMLError as error:
        return [f"front matter is no YAML: {error}"]
    faults = []
    if facts.get("license", "unknown") not in LICENSES:
        faults.append(f'"license" must be one of {LICENSES}')
    if not isinstance(facts.get("tags", []), list) or not all(isinstance(tag, str) for tag in facts.get("tags", [])):
        faults.append('"tags" must be an array of strings')
    if "base_model" in facts and not MODEL_ID.fullmatch(str(facts["base_model"])):
        faults.append('"base_model" with value is not valid. Use a model id from https://hf.co/models.')
    return faults
