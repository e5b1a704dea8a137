"""Command line: `serve` (the default), `check` the configuration, print the default `config`, `migrate` the embedded
database to a real MongoDB, print or replace its `epoch`, print the `reports`, an `invite`, or the `schema` of
the configuration."""

import argparse
import errno
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

try:
    from server import __version__
    from server.config.load import declared, default_file, load
    from server.config.schema import describe_settings
    from server.config.settings import Settings
    from server.config.sources import ConfigError, other_variables
    from server.log.output import start_logging
except ModuleNotFoundError as error:
    sys.exit(f"{error}: run make setup, then .venv/bin/python main.py")

log = logging.getLogger("madang")

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
OTHER_PORT_HINT: Final = "--set server.port=3001 or MADANG_SERVER__PORT=3001"
# Names that commands had in earlier versions.
ALIASES: Final = {"migrate": ("move",)}
MOST_REPORTS: Final = 1_000
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def main(arguments: Sequence[str]) -> int:
    """Run one command. Returns the exit code: 0, 1 if the server did not start or the migration failed, 2 for a bad
    configuration."""
    options = _parser().parse_args(arguments)
    if options.command == "config":
        sys.stdout.write(default_file())
        return 0
    if options.command == "schema":
        json.dump(describe_settings(declared()), sys.stdout, indent=2)
        return 0
    path = options.late_config or options.config or Path(__file__).resolve().parent / "config.yaml"
    try:
        settings = load(path, options.set + options.late_set, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    if options.command == "invite":
        return _invite(settings, options)
    start_logging(settings.log.level, settings.log.format)
    ignored = other_variables(os.environ)
    if ignored:
        log.warning(
            "unknown environment variables ignored names=%s; settings are named MADANG_SECTION__KEY", ",".join(ignored)
        )
    if options.command == "check":
        print(f"{path}: ok", flush=True)
        return _check_stores(settings) if options.stores else 0
    if options.command in ("migrate", "move"):
        return _migrate(settings, options.to, options.database or settings.mongodb.database)
    if options.command == "epoch":
        return _epoch(settings, new=options.new)
    if options.command == "reports":
        return _reports(settings, options.limit)
    return _serve(settings, lambda: load(path, options.set + options.late_set, os.environ))


def _check_stores(settings: Settings) -> int:
    import uvloop

    from server.admin.check_stores import check_stores
    from server.embedded import StartFailed

    try:
        is_ok = uvloop.run(check_stores(settings, say=lambda line: print(line, flush=True)))
    except StartFailed as error:
        print(f"not checked: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0 if is_ok else EXIT_FAILED


def _epoch(settings: Settings, *, new: bool) -> int:
    import uvloop

    from server.admin.database import CommandFailed
    from server.admin.epoch import read_epoch

    start_logging("ERROR")
    try:
        epoch = uvloop.run(read_epoch(settings, new=new))
    except CommandFailed as error:
        print(f"{'not changed' if new else 'not known'}: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(f"new epoch: {epoch}" if new else epoch)
    return 0


def _invite(settings: Settings, options: argparse.Namespace) -> int:
    from server.admin.invite import make_link
    from server.config.types import read_duration

    try:
        life = read_duration(options.life)
        host = "localhost" if settings.server.host in ("0.0.0.0", "::") else settings.server.host  # noqa: S104
        print(make_link(settings, options.url or f"http://{host}:{settings.server.port}", life, options.email))
    except ValueError as error:
        print(f"no invite: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except OSError as error:
        print(f"no invite: {error}; start the server once before", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _reports(settings: Settings, limit: int) -> int:
    import uvloop

    from server.admin.database import CommandFailed
    from server.admin.reports import print_reports

    start_logging("ERROR")
    try:
        uvloop.run(print_reports(settings, limit, say=lambda line: print(line, flush=True)))
    except CommandFailed as error:
        print(f"not read: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _migrate(settings: Settings, uri: str, database: str) -> int:
    import uvloop

    from server.admin.migrate import MigrationFailed, migrate

    try:
        uvloop.run(migrate(settings, uri, database, say=lambda line: print(line, flush=True)))
    except MigrationFailed as error:
        print(f"not moved: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("not moved: interrupted; run the same command again to continue", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _serve(settings: Settings, reload: Callable[[], Settings]) -> int:
    # Signals are blocked during the imports: one would interrupt an import half-way.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    import uvloop

    from handlers.app import serve
    from server.embedded import StartFailed

    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if not os.isatty(0):
            # It reloads the configuration, which is new now. From a terminal that is closed it is the end.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        uvloop.run(serve(settings, ready=lambda address: print(f"listening on {address}", flush=True), reload=reload))
    except StartFailed as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        address = f"{settings.server.host}:{settings.server.port}"
        hint = f"; take another port, e.g. {OTHER_PORT_HINT}" if error.errno == errno.EADDRINUSE else ""
        print(f"cannot start at {address}: {error.strerror or error}{hint}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="main.py", description="Madang, a realtime chat server.")
    parser.add_argument("--version", action="version", version=f"madang {__version__}")
    _add_options(parser, prefix="")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, help_text in (
        ("serve", "start the server (the default)"),
        ("check", "check the configuration, without starting anything; with --stores, also what the stores can do"),
        ("config", "print every setting with its default, as in config.yaml"),
        ("schema", "print a JSON Schema of the configuration, for editors"),
        ("invite", "print a link by which people may make an account where auth.registration is invite"),
        ("migrate", "copy the embedded database to a real MongoDB, while no server runs"),
        ("reports", "print the messages that people have reported, the latest first, while no server runs"),
        ("epoch", "print the name of the database's history, or give it another one, while no server runs"),
    ):
        # Options are allowed before and after the command; argparse keeps only one of two with the same destination.
        command = commands.add_parser(name, help=help_text, description=help_text, aliases=ALIASES.get(name, ()))
        _add_options(command, prefix="late_")
        if name == "check":
            command.add_argument("--stores", action="store_true", help="ask the stores for all that the server needs")
        if name == "migrate":
            command.add_argument("--to", required=True, metavar="URI", help="its address, mongodb://…")
            command.add_argument("--database", metavar="NAME", help="the database there, instead of mongodb.database")
        if name == "invite":
            command.add_argument("--for", dest="life", default="7d", metavar="TIME", help="how long it is good: 7d")
            command.add_argument("--email", default="", help="good for this address only; else for anybody who has it")
            command.add_argument(
                "--url", default="", help="where people find the server, e.g. https://chat.example.com"
            )
        if name == "reports":
            command.add_argument("--limit", type=int, default=MOST_REPORTS, metavar="N", help="at most so many")
        if name == "epoch":
            command.add_argument("--new", action="store_true", help="give it another one: after a restored backup")
    parser.set_defaults(late_config=None, late_set=[])
    return parser


def _add_options(parser: argparse.ArgumentParser, *, prefix: str) -> None:
    parser.add_argument(
        "--config", dest=f"{prefix}config", type=Path, metavar="FILE", help="configuration, instead of config.yaml"
    )
    parser.add_argument(
        "--set",
        dest=f"{prefix}set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, e.g. server.port=8080; may be repeated",
    )


def _end(code: int) -> NoReturn:
    """Exit without joining threads: driver threads may block for ten seconds on a store that does not answer."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main(sys.argv[1:]))
