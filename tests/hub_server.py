"""A local server that speaks the part of the Hugging Face Hub's HTTP interface that bundles need."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.tiny_bundle import files_of


@dataclass
class Repository:
    """Commits and branches of a repository, which a token opens if it is private."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit of exactly these files, and return its id."""
        commit = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit


@dataclass
class Hub:
    """The server's state, and what it was asked."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)  # method, path
    cut: dict[str, int] = field(default_factory=dict)  # path -> bytes after which the next transfer of it breaks off
    down: bool = False  # every request is answered with status 503

    def add(self, name: str, folder: Path) -> str:
        """Commit the files of a folder to a repository's main branch, and return the commit."""
        return self.repositories.setdefault(name, Repository()).commit(files_of(folder))


@contextmanager
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a `Hub` until the block ends, and make it the one that huggingface-hub asks in this process."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    # HF_ENDPOINT is read at import.
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Refusal(Exception):
    """Arguments: status, and perhaps an error code."""


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: a connection for every request, so that none outlives the server."""

    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the requests are in ``hub.requests``."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).strip("/")
        if path == "api/agent-harnesses":  # asked by huggingface-hub for its own User-Agent, once a day
            return self._send(404, b"", {})
        self.hub.requests.append((self.command, path))
        try:
            if self.hub.down:
                raise _Refusal(503)
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            if path == "api/repos/create":
                self._create(json.loads(body))
            elif path == "api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            elif parts[:2] == ["api", "models"]:
                self._api("/".join(parts[2:4]), parts[4:], body)
            elif len(parts) > 4 and parts[2] == "resolve":
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:
                raise _Refusal(404)
        except _Refusal as refusal:
            self._send(refusal.args[0], b"{}", {"X-Error-Code": "".join(refusal.args[1:])})

    do_HEAD = do_GET = do_POST = _answer

    def _repository(self, name: str) -> Repository:
        if name not in self.hub.repositories:
            raise _Refusal(404, "RepoNotFound")
        repository = self.hub.repositories[name]
        if repository.private and self.headers.get("Authorization") != "Bearer hf_secret":
            raise _Refusal(401, "RepoNotFound")
        return repository

    def _revision(self, repository: Repository, revision: str) -> str:
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            raise _Refusal(404, "RevisionNotFound")
        return commit

    def _api(self, name: str, rest: list[str], body: bytes) -> None:
        repository = self._repository(name)
        match rest:
            case [] | ["revision", _]:
                info: dict[str, Any] = {"id": name, "private": repository.private, "tags": [], "siblings": []}
                if repository.commits:
                    info["sha"] = self._revision(repository, rest[1] if rest else "main")
                    for path, data in repository.commits[info["sha"]].items():
                        info["siblings"].append({"rfilename": path, "size": len(data), "blobId": _etag(data)})
                self._json(info)
            case ["tree", revision]:
                files = repository.commits[self._revision(repository, revision)].items()
                kind = {"type": "file"}
                self._json([{**kind, "path": path, "size": len(data), "oid": _etag(data)} for path, data in files])
            case ["preupload", _]:
                paths, mode = json.loads(body)["files"], {"uploadMode": "regular", "shouldIgnore": False}
                self._json({"files": [{"path": file["path"], **mode} for file in paths]})
            case ["branch", branch]:
                repository.branches.setdefault(branch, repository.branches.get("main", ""))
                self._json({})
            case ["commit", revision]:
                lines = [json.loads(line) for line in body.splitlines()]
                new = dict(repository.commits.get(repository.branches.get(revision, ""), {}))
                for file in (line["value"] for line in lines if line["key"] == "file"):
                    new[file["path"]] = base64.b64decode(file["content"])
                commit = repository.commit(new, revision)
                url = f"{self.hub.url}/{name}/commit/{commit}"
                self._json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
            case _:
                raise _Refusal(404)

    def _create(self, wanted: dict[str, Any]) -> None:
        if self.headers.get("Authorization") != "Bearer hf_secret":
            raise _Refusal(401)
        name = f"{wanted['organization']}/{wanted['name']}"
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        exists = name in self.hub.repositories
        self.hub.repositories.setdefault(name, Repository(private=private))
        self._json({"url": f"{self.hub.url}/{name}"}, 409 if exists else 200)

    def _file(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name)
        commit = self._revision(repository, revision)
        if path not in repository.commits[commit]:
            raise _Refusal(404, "EntryNotFound")
        data = repository.commits[commit][path]
        wanted = self.headers.get("Range")
        first = int((wanted or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        cut = self.hub.cut.pop(path, None) if self.command == "GET" else None
        self._send(206 if first else 200, data[first:], headers, cut)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut])


def _etag(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
