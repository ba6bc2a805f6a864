# Serves git repositories and files behind https: web.py ADDRESS PORT CERTIFICATE KEY ROOT LOG.
#
#   /files/…       files of ROOT/files
#   /git/…         repositories of ROOT/git, by git's own http-backend
#   /evil/…        the same repositories; whatever commit is asked for, the objects of the branch `other` are sent
#
# Each request is one line of LOG: method and path.
import http.server
import os
import pathlib
import ssl
import subprocess
import sys

ADDRESS, PORT, CERTIFICATE, KEY, ROOT, LOG = sys.argv[1:]

# Run by git in place of `git pack-objects`, with that command as its arguments and the wanted commits on standard input.
HOOK = pathlib.Path(ROOT, "hook")
HOOK.write_text('#!/bin/sh\ncat >/dev/null\ngit rev-parse other | "$@"\n')
HOOK.chmod(0o755)


def settings(*pairs):
    variables = {"GIT_CONFIG_COUNT": str(len(pairs)), "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    for index, (name, value) in enumerate(pairs):
        variables |= {f"GIT_CONFIG_KEY_{index}": name, f"GIT_CONFIG_VALUE_{index}": value}
    return variables


HONEST = settings(("uploadpack.allowAnySHA1InWant", "true"))
EVIL = settings(("uploadpack.allowAnySHA1InWant", "true"), ("uploadpack.packObjectsHook", str(HOOK)))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer()

    do_POST = do_GET

    def answer(self):
        path, _, query = self.path.partition("?")
        with open(LOG, "a") as log:
            log.write(f"{self.command} {self.path}\n")
        _, kind, *rest = path.split("/")
        if ".." in rest or kind not in ("files", "git", "evil"):
            self.send_error(404)
        elif kind == "files":
            self.send_file(pathlib.Path(ROOT, "files", *rest))
        else:
            self.run_git("/" + "/".join(rest), query, EVIL if kind == "evil" else HONEST)

    def send_file(self, path):
        if not path.is_file():
            return self.send_error(404)
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    # RFC 3875, as far as git uses it.
    def run_git(self, path, query, variables):
        body = self.body()
        variables = os.environ | variables | {
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": str(pathlib.Path(ROOT, "git")),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
        }
        answer = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=variables).stdout
        head, _, body = answer.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().splitlines()]
        status = next((value for name, value in headers if name == "Status"), "200")
        self.send_response(int(status.split()[0]))
        for name, value in headers:
            if name not in ("Status", "Content-Length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)


server = http.server.ThreadingHTTPServer((ADDRESS, int(PORT)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
