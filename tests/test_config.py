"""Settings from the file, the environment and the options, and the errors for wrong ones."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from server.config.load import declared, load
from server.config.settings import Settings
from server.config.sources import ConfigError, other_variables
from tests.support.issuer import make_key, public_pem

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_FILE = ROOT / "config.yaml"
DAY = 24 * 3600.0


def load_text(
    folder: Path, text: str | bytes, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Settings:
    file = folder / "some.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(file, sets, environ)


def value_of(settings: Settings, key: str) -> object:
    return reduce(getattr, key.split("."), settings)


def refusal(text: str | bytes, folder: Path) -> str:
    """What is said about a file: `LINE: message`, with the file's own name checked and taken off."""
    with pytest.raises(ConfigError) as caught:
        load_text(folder, text)
    said = str(caught.value)
    assert said == f"{caught.value.path}: {caught.value.message}"
    assert said.startswith(f"{folder}/some.yaml")
    return said.removeprefix(f"{folder}/some.yaml").lstrip(":")


# --- the file that comes with the project


def test_default_file_is_what_the_declarations_say() -> None:
    printed = subprocess.run([sys.executable, ROOT / "main.py", "config"], capture_output=True, check=True)
    assert printed.stdout.decode() == DEFAULT_FILE.read_text()


def test_default_file_names_every_setting_once_each_under_one_line_of_comment() -> None:
    lines = DEFAULT_FILE.read_text().splitlines()
    keys = []
    for before, line in zip(["", *lines], lines, strict=False):
        name, colon, value = line.partition(":")
        if colon and value and not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("# "), f"no comment above {line!r}"
            keys.append(name.strip())
    assert keys == [setting.key.rpartition(".")[2] for setting in declared()]


def test_default_file_changes_nothing() -> None:
    from_file = load(DEFAULT_FILE)
    for setting in declared():
        if setting.key != "data_dir":
            assert value_of(from_file, setting.key) == setting.default, setting.key


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("server.host", "127.0.0.1"),
        ("server.port", 3000),
        ("mongodb.uri", "embedded"),
        ("mongodb.database", "madang"),
        ("redis.url", "embedded"),
        ("auth.mode", "builtin"),
        ("auth.access_ttl", 15 * 60.0),
        ("auth.refresh_ttl", 30 * DAY),
        ("messages.max_length", 10_000),
        ("offline_queue.retention", DAY),
        ("offline_queue.max_messages", 1000),
        ("presence.grace", 5.0),
        ("presence.lease", 60.0),
        ("typing.timeout", 5.0),
        ("sweep.interval", 30.0),
        ("limits.enabled", True),
        ("uploads.max_image", 20_000_000),
        ("uploads.max_file", 100_000_000),
        ("cors.origins", []),
    ],
)
def test_defaults_that_the_contract_names(key: str, default: object) -> None:
    assert value_of(load(DEFAULT_FILE), key) == default


# --- where values come from


def test_an_empty_file_means_all_defaults(tmp_path: Path) -> None:
    assert load_text(tmp_path, "").server.port == 3000
    assert load_text(tmp_path, "# nothing\nserver:\n").server.port == 3000


def test_later_sources_win(tmp_path: Path) -> None:
    text = "server: {port: 1, host: a}\ntyping: {timeout: 1s}\n"
    environ = {"MADANG_SERVER__PORT": "2", "MADANG_SERVER__HOST": "b", "HOME": "/"}
    settings = load_text(tmp_path, text, ["server.port=3", "server.port=4"], environ)
    assert (settings.server.port, settings.server.host, settings.typing.timeout) == (4, "b", 1.0)


def test_variables_are_matched_without_case(tmp_path: Path) -> None:
    assert load_text(tmp_path, "", (), {"madang_Offline_Queue__Max_Messages": "7"}).offline_queue.max_messages == 7


def test_options_are_yaml(tmp_path: Path) -> None:
    settings = load_text(
        tmp_path,
        "",
        [
            'cors.origins=["https://a.example", "http://localhost:8080"]',
            'presence.grace="1.5s"',
            "limits.enabled=false",
            "uploads={max_image: 1KiB, max_file: 2000}",
        ],
    )
    assert settings.cors.origins == ["https://a.example", "http://localhost:8080"]
    assert settings.presence.grace == 1.5
    assert settings.limits.enabled is False
    assert (settings.uploads.max_image, settings.uploads.max_file) == (1024, 2000)


def test_a_text_of_digits_needs_no_quotes_outside_the_file(tmp_path: Path) -> None:
    digits = "1234567890" * 4
    assert load_text(tmp_path, "", [f"auth.secret={digits}"]).auth.secret == digits
    assert load_text(tmp_path, "", (), {"MADANG_AUTH__SECRET": digits}).auth.secret == digits
    assert load_text(tmp_path, "", ["auth.secret="]).auth.secret == ""


def test_data_dir_is_relative_to_the_file(tmp_path: Path) -> None:
    assert load_text(tmp_path, "").data_dir == str(tmp_path / "data")
    assert load_text(tmp_path, "data_dir: ../else").data_dir == str(tmp_path.parent / "else")
    assert load_text(tmp_path, "", ["data_dir=/some/where"]).data_dir == "/some/where"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("5s", 5.0), ("1.5s", 1.5), ("10m", 600.0), ("24h", DAY), ("30d", 30 * DAY), ("2 h", 7200.0)],
)
def test_durations(written: str, seconds: float, tmp_path: Path) -> None:
    assert load_text(tmp_path, f"offline_queue: {{retention: {written}}}").offline_queue.retention == seconds


@pytest.mark.parametrize(
    ("written", "count"), [("100", 100), ("64KiB", 65536), ("1.5KB", 1500), ("20MB", 20_000_000), ("1GiB", 1 << 30)]
)
def test_sizes(written: str, count: int, tmp_path: Path) -> None:
    assert load_text(tmp_path, f"uploads: {{max_file: {written}}}").uploads.max_file == count


# --- what is refused, and where it is said to be


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sever:\n  port: 1\n", "1: sever: unknown setting"),
        ("server:\n  host: a\n  prot: 1\n", "3: server.prot: unknown setting; did you mean server.port?"),
        ("server:\n  port: 1\n  port: 2\n", "3: server.port: given twice"),
        ("server: {}\nserver: {}\n", "2: server: given twice"),
        ("server: 5\n", "1: server: expected settings, each `name: value`"),
        ("- server\n", "1: the file: expected settings, each `name: value`"),
        ("server:\n  1: 2\n", "2: server.1: unknown setting"),
        ("server:\n  ? [a]\n  : 2\n", "2: server.?: unknown setting"),
        ("\nserver:\n  port: 65536\n", "3: server.port: expected a whole number, 0 to 65535"),
        ("server: {port: -1}", "1: server.port: expected a whole number, 0 to 65535"),
        ("server: {port: 1.5}", "1: server.port: expected a whole number, 0 to 65535"),
        ("server: {port: true}", "1: server.port: expected a whole number, 0 to 65535"),
        ("server: {port: null}", "1: server.port: expected a whole number, 0 to 65535"),
        ("server: {port: [1]}", "1: server.port: expected a whole number, 0 to 65535"),
        ("server: {host: 5}", "1: server.host: expected an address or name"),
        ("server: {host: ''}", "1: server.host: expected an address or name"),
        ("limits: {enabled: 1}", "1: limits.enabled: expected true or false"),
        ("limits: {enabled: 'true'}", "1: limits.enabled: expected true or false"),
        ("log: {level: LOUD}", "1: log.level: expected DEBUG or INFO or WARNING or ERROR"),
        ("auth: {mode: none}", "1: auth.mode: expected builtin"),
        ("auth: {secret: short}", "1: auth.secret: expected at least 32 characters"),
        ("mongodb: {uri: 'http://x'}", "1: mongodb.uri: expected embedded or mongodb://…"),
        ("mongodb: {database: a.b}", "1: mongodb.database: expected 1 to 63 letters, digits, _ or -"),
        ("redis: {url: x}", "1: redis.url: expected embedded, redis://… or unix://…"),
        ("cors: {origins: ['*']}", "1: cors.origins: expected a list of origins such as https://app.example.com"),
        ("cors: {origins: ['https://a/']}", "1: cors.origins: expected a list of origins such as"),
        ("cors: {origins: https://a}", "1: cors.origins: expected a list of origins such as"),
        ("server: {trusted_proxies: [proxy]}", "1: server.trusted_proxies: expected a list of IP addresses"),
        ("server: {trusted_proxies: [1]}", "1: server.trusted_proxies: expected a list of IP addresses"),
        (
            "server: {trusted_proxies: [10.0.0.1/8]}",
            "1: server.trusted_proxies: expected a list of IP addresses and netw",
        ),
        ("typing: {timeout: 5}", "1: typing.timeout: expected a duration such as 500ms, 5s, 10m, 24h or 30d"),
        ("typing: {timeout: 5 weeks}", "1: typing.timeout: expected a duration such as"),
        ("typing: {timeout: -5s}", "1: typing.timeout: expected a duration such as"),
        ("typing: {timeout: 1ms}", "1: typing.timeout: expected 50ms to 60m"),
        ("typing: {timeout: 999999999999d}", "1: typing.timeout: expected 50ms to 60m"),
        ("typing: {timeout: \u0665s}", "1: typing.timeout: expected a duration such as"),
        ("uploads: {max_file: 1XB}", "1: uploads.max_file: expected a size such as 64KiB or 20MB"),
        ("uploads: {max_file: true}", "1: uploads.max_file: expected a size such as 64KiB or 20MB"),
        ("uploads: {max_file: 0}", "1: uploads.max_file: expected 1B to 100GB"),
        ("messages:\n  max_length: 20000\n", "2: messages.max_length: 20000 characters may take 244096 bytes"),
        ("server:\n  max_payload: 64KiB\n", "2: server.max_payload: 64KiB is too small: "),
        ("server:\n  port: {\n", "3: not valid YAML"),
        ("server:\n\tport: 1\n", "2: not valid YAML"),
        ("server: *nowhere\n", "1: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "2: not valid YAML"),
        ("server: {host: !!python/object/apply:os.system [x]}", "1: server.host: not a plain value"),
        ("server: {host: 2025-13-45}", "1: server.host: "),
        ("x: " + "[" * 10_000, "nested too deeply"),
        ("server: &s {port: 1, <<: *s}", "1: server.<<: unknown setting"),
        (b"server:\n  host: \xff\n", "2: not UTF-8 text"),
        (b"server:\n  host: \x00\n", "not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_with_line_and_key(text: str | bytes, said: str, tmp_path: Path) -> None:
    answer = refusal(text, tmp_path)
    assert answer.lstrip(": ").startswith(said), answer
    assert "\n" not in answer


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("server.port=x", "option --set server.port: server.port: expected a whole number, 0 to 65535"),
        ("server.port", "option --set server.port: expected KEY=VALUE"),
        ("server.port={", "option --set server.port: not valid YAML"),
        ("nothing.here=1", "option --set nothing.here: nothing.here: unknown setting"),
        ("server={prot: 1}", "option --set server: server.prot: unknown setting"),
        ("=1", "option --set : : unknown setting"),
    ],
)
def test_a_bad_option_is_named(option: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, "", [option])
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MADANG_SERVER__PORT", "environment variable MADANG_SERVER__PORT: server.port: expected a whole number"),
        ("MADANG_SERVER__PROT", "environment variable MADANG_SERVER__PROT: server.prot: unknown setting"),
        ("madang_x__y", "environment variable madang_x__y: x.y: unknown setting"),
    ],
)
def test_a_bad_variable_is_named(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, "", (), {name: "x"})
    assert str(caught.value).startswith(said)


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    """Kubernetes sets such ones beside a service that is called madang."""
    others = {"MADANG_PORT": "tcp://10.0.0.1:3000", "MADANG_SERVICE_HOST": "10.0.0.1", "MADANG_": "x", "MADANG__X": "y"}
    environ = {**others, "MADANG_SERVER__PORT": "2", "madang_data_dir": str(tmp_path / "kept"), "HOME": "/"}
    settings = load_text(tmp_path, "", (), environ)
    assert (settings.server.port, settings.data_dir) == (2, str(tmp_path / "kept"))
    assert other_variables(environ) == sorted(others)


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_text(tmp_path, "data_dir: ~/x").data_dir == str(tmp_path / "home" / "x")
    assert load_text(tmp_path, "", ["data_dir=~"]).data_dir == str(tmp_path / "home")
    assert refusal("server:\ndata_dir: ~nobody-of-this-name/x", tmp_path) == "2: data_dir: there is no such home folder"


@pytest.mark.parametrize(
    ("text", "sets", "said"),
    [
        (
            DEFAULT_FILE.read_text(),
            ["server.max_payload=64KiB"],
            "option --set server.max_payload: server.max_payload: 64KiB is too small: the 10000 characters of "
            "messages.max_length (FILE:LENGTH_LINE) may take 124096 bytes of JSON",
        ),
        (
            DEFAULT_FILE.read_text(),
            ["messages.max_length=20000"],
            "option --set messages.max_length: messages.max_length: 20000 characters may take 244096 bytes of JSON, "
            "but server.max_payload is 128KiB (FILE:PAYLOAD_LINE)",
        ),
        (
            "server: {max_payload: 64KiB}",
            [],
            "FILE:1: server.max_payload: 64KiB is too small: the 10000 characters of messages.max_length "
            "(the default) may take 124096 bytes of JSON",
        ),
        (
            "messages: {max_length: 20000}",
            ["server.max_payload=64KiB"],
            "FILE:1: messages.max_length: 20000 characters may take 244096 bytes of JSON, "
            "but server.max_payload is 64KiB (option --set server.max_payload)",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_both_named(
    text: str, sets: list[str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text, sets)
    lines = [line.strip().partition(":")[0] for line in text.splitlines()]
    for word, name in (("LENGTH_LINE", "max_length"), ("PAYLOAD_LINE", "max_payload")):
        said = said.replace(word, str(lines.index(name) + 1)) if name in lines else said
    assert str(caught.value) == said.replace("FILE", str(tmp_path / "some.yaml"))


def test_one_variable_written_in_two_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"server\.port: given twice"):
        load_text(tmp_path, "", (), {"MADANG_SERVER__PORT": "1", "madang_server__port": "2"})


def test_a_refused_secret_is_not_repeated(tmp_path: Path) -> None:
    for text in ("auth: {secret: hunter2}", "mongodb: {uri: 'htp://u:hunter2@h'}", "redis: {url: [hunter2]}"):
        assert "hunter2" not in refusal(text, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(key=st.sampled_from([setting.key for setting in declared()]), value=plain)
def test_any_value_is_either_taken_or_refused_in_words(key: str, value: object) -> None:
    section, _, name = key.rpartition(".")
    document = {section: {name: value}} if section else {name: value}
    option = f"{section or name}={yaml.safe_dump(document[section or name], default_flow_style=True)}"
    try:
        settings = load(DEFAULT_FILE, [option])
    except ConfigError as error:
        assert str(error).startswith("option --set "), error
    else:
        assert type(value_of(settings, key)) in (str, bool, int, float, list)


# --- tokens from somewhere else


EXTERNAL = "auth:\n  mode: external\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "2: auth.external.algorithms: auth.mode external needs the algorithms that tokens are signed with"),
        ("    algorithms: [none]\n", "4: auth.external.algorithms: expected a list of some of HS256"),
        ("    algorithms: [HS256]\n", "2: auth.external.secret: HS256 needs at least 32 bytes"),
        (
            "    algorithms: [HS512]\n    secret: " + "x" * 63 + "\n",
            "5: auth.external.secret: HS512 needs at least 64 bytes",
        ),
        (
            "    algorithms: [HS256]\n    secret: '-----BEGIN PUBLIC KEY-----aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'\n",
            "5: auth.external.secret: holds a key of another kind",
        ),
        (
            "    algorithms: [HS256]\n    secret: " + "x" * 32 + "\n  secret: " + "x" * 32 + "\n",
            "5: auth.external.secret: must not be auth.secret",
        ),
        ("    algorithms: [RS256]\n", "2: auth.external.public_key_file: these algorithms need a public key"),
        ("    algorithms: [RS256]\n    jwks_url: ftp://x\n", "5: auth.external.jwks_url: expected an http(s) address"),
        (
            "    algorithms: [RS256]\n    jwks_url: https://x\n    public_key_file: y\n",
            "5: auth.external.jwks_url: cannot go together with auth.external.public_key_file",
        ),
        ("    algorithms: [RS256]\n    public_key_file: none.pem\n", "5: auth.external.public_key_file: "),
        ("    algorithms: [RS256]\n    public_key_file: some.yaml\n", "5: auth.external.public_key_file: "),
    ],
)
def test_settings_that_would_trust_too_much_or_nobody_stop_the_start(more: str, said: str, tmp_path: Path) -> None:
    assert refusal(EXTERNAL + (f"  external:\n{more}" if more else ""), tmp_path).startswith(said)


def test_a_key_file_lies_beside_the_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(public_pem(make_key("ES256")))
    text = EXTERNAL + "  external:\n    algorithms: [ES256]\n    public_key_file: key.pem\n"
    assert load_text(tmp_path, text).auth.external.public_key_file == str(tmp_path / "key.pem")
