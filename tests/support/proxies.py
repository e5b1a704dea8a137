"""The proxies of docs/operations.md, each run as its example says, but for names, ports and files."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.ports import free_port
from tests.support.server_process import ROOT

DEADLINE = 30.0
PAUSE = 0.05  # between two looks at whether it listens
PLACES = ":/usr/sbin:/usr/local/sbin"
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {example}
}}
"""
CADDY = (
    "{{\n admin off\n auto_https disable_redirects\n skip_install_trust\n storage file_system {folder}\n}}\n{example}"
)


class Certificate(NamedTuple):
    """For 127.0.0.1. `both` holds the certificate and then the key."""

    public: Path
    key: Path
    both: Path


class Proxy(NamedTuple):
    """One of the examples: the language of its block, the file around it, and how it is started with that file."""

    language: str
    frame: str
    options: list[str]

    @property
    def program(self) -> str | None:
        return shutil.which(self.options[0]) or shutil.which(self.options[0], path=PLACES)


PROXIES = {
    "nginx": Proxy("nginx", NGINX, ["nginx", "-e", "{folder}/error.log", "-p", "{folder}", "-c"]),
    "haproxy": Proxy("haproxy", "{example}", ["haproxy", "-db", "-f"]),
    "caddy": Proxy("caddyfile", CADDY, ["caddy", "run", "--adapter", "caddyfile", "--config"]),
}


def make_certificate(folder: Path) -> Certificate:
    """Signed by itself, with Debian's openssl."""
    found = Certificate(folder / "public.pem", folder / "key.pem", folder / "both.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(found.key), "-out", str(found.public), "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    found.both.write_text(found.public.read_text() + found.key.read_text())
    return found


def example_of(proxy: Proxy, url: str, port: int, certificate: Certificate) -> str:
    """The block of the page, on this port of ours, for this server and with this certificate."""
    page = (ROOT / "docs" / "operations.md").read_text()
    [text] = re.findall(rf"```{proxy.language}\n(.*?)```", page, flags=re.DOTALL)
    for shown, ours in (
        ("127.0.0.1:3000", url.removeprefix("http://")),
        ("/etc/ssl/chat-with-key.pem", str(certificate.both)),
        ("/etc/ssl/chat.pem", str(certificate.public)),
        ("/etc/ssl/chat.key", str(certificate.key)),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("bind :443 ssl", f"bind 127.0.0.1:{port} ssl"),
        ("chat.example.com {", f"https://127.0.0.1:{port} {{\n tls {certificate.public} {certificate.key}"),
        ("chat.example.com", "127.0.0.1"),
    ):
        text = text.replace(shown, ours)
    return text


@contextmanager
def run_proxy(proxy: Proxy, folder: Path, url: str, certificate: Certificate) -> Iterator[str]:
    """The address at which the proxy serves the server at `url`, until the end."""
    port = free_port()
    file, output = folder / "proxy.conf", folder / "output"
    file.write_text(proxy.frame.format(folder=folder, example=example_of(proxy, url, port, certificate)))
    command = [str(proxy.program), *(option.format(folder=folder) for option in proxy.options[1:]), str(file)]
    with output.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={"HOME": str(folder)})
    try:
        until = time.monotonic() + DEADLINE
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{proxy.options[0]} does not listen:\n{output.read_text()[-3000:]}")
            time.sleep(PAUSE)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
