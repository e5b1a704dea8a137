"""Every setting, declared once: name, type, default, meaning and bounds."""

from typing import Annotated, Any, Final, Literal

import msgspec

from server.config.types import (
    KIB,
    MIB,
    choices,
    claim_names,
    duration,
    header_names,
    ip_networks,
    meaning,
    names,
    size,
    text,
    web_origins,
)

MB: Final = 1000**2
GB: Final = 1000**3
MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86400.0

# Roles of users in marketplaces, rentals and bookings. None of them suggests a member of staff.
USER_TYPES: Final = (
    "user", "member", "guest", "host", "customer", "client", "consumer", "provider", "seeker", "buyer", "seller",
    "vendor", "tenant", "landlord", "driver", "rider", "student", "teacher", "individual", "business",
)  # fmt: skip


# Of RFC 7518 and RFC 8037, those with a signature; `none` is not one.
TOKEN_ALGORITHMS: Final = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One mapping of the file."""


class Server(Section, frozen=True, kw_only=True):
    host: Annotated[str, text("address to listen on", r"[A-Za-z0-9.:%_-]+", "an address or name")] = "127.0.0.1"
    port: Annotated[int, meaning("port to listen on; 0 takes a free one", ge=0, le=65535)] = 3000
    max_payload: Annotated[int, size("largest JSON body and socket frame", 4 * KIB, 64 * MIB)] = 128 * KIB
    max_unsent: Annotated[
        int, size("bytes that may wait for all clients together before the slowest are cut", MIB, 64 * 1024 * MIB)
    ] = 24 * MIB
    max_unsent_per_user: Annotated[int, size("the same for all connections of one user", MIB, 64 * 1024 * MIB)] = (
        16 * MIB
    )
    trusted_proxies: Annotated[
        list[str], ip_networks("addresses and networks of proxies whose X-Forwarded-For counts")
    ] = []
    max_connections: Annotated[
        int, meaning("most connections at once; 0: what the limit of file descriptors allows", ge=0, le=10_000_000)
    ] = 0
    max_connections_per_address: Annotated[
        int,
        meaning("most of one address, IPv6 by /64; 0: half of all, at most 1000", ge=0, le=10_000_000),
    ] = 0
    shutdown_timeout: Annotated[float, duration("longest wait for work in flight at the end", 0, 5 * MINUTE)] = 8.0


LogFormat = Literal["text", "json"]


class Log(Section, frozen=True, kw_only=True):
    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], meaning("least severe entries to log")] = "INFO"
    format: Annotated[LogFormat, meaning("lines of text, or a JSON object in each line")] = "text"


class MongoDB(Section, frozen=True, kw_only=True):
    uri: Annotated[
        str, text("embedded, or the address of a server", r"embedded|mongodb(\+srv)?://.+", "embedded or mongodb://…")
    ] = "embedded"
    database: Annotated[
        str, text("name of the database", r"[A-Za-z0-9_-]{1,63}", "1 to 63 letters, digits, _ or -")
    ] = "madang"


class Redis(Section, frozen=True, kw_only=True):
    url: Annotated[
        str,
        text(
            "embedded, or the address of a server", r"embedded|(rediss?|unix)://.+", "embedded, redis://… or unix://…"
        ),
    ] = "embedded"
    max_memory: Annotated[
        int, size("most memory of the embedded one; beyond it, what comes for the absent waits", 8 * MIB, 1000 * GB)
    ] = 256 * MIB


def _names(*items: str) -> Any:
    return msgspec.field(default_factory=lambda: list(items))


class Claims(Section, frozen=True, kw_only=True):
    """Names of claims; of several, the first that a token has. A dot leads into an object: `realm_access.roles`."""

    email: Annotated[list[str], claim_names("claims that hold the email")] = _names("email")
    first_name: Annotated[list[str], claim_names("… the first name")] = _names("given_name", "firstName")
    last_name: Annotated[list[str], claim_names("… the last name")] = _names("family_name", "lastName")
    phone: Annotated[list[str], claim_names("… the phone number")] = _names("phone_number", "phone")
    profile_image: Annotated[list[str], claim_names("… the address of a picture")] = _names("picture", "profileImage")
    user_type: Annotated[list[str], claim_names("… the type of the user")] = _names("userType")
    trust_score: Annotated[list[str], claim_names("… the trust score, a number")] = _names("trustScore")
    scope: Annotated[list[str], claim_names("… the scopes: a list, or one text with blanks")] = _names("scope", "scp")


class External(Section, frozen=True, kw_only=True):
    algorithms: Annotated[
        list[str], choices("algorithms that a token may be signed with, and no other", TOKEN_ALGORITHMS)
    ] = []
    secret: Annotated[
        str, text("shared key of HS256 (at least 32 bytes), HS384 (48) and HS512 (64)", r"(?s:.*)", "a text")
    ] = ""
    public_key_file: Annotated[
        str, text("PEM file of a public key, relative to the folder of this file", r"[^\0\ud800-\udfff]*", "a path")
    ] = ""
    jwks_url: Annotated[str, text("address of a JSON Web Key Set", r"|https?://\S+", "an http(s) address")] = ""
    jwks_refresh: Annotated[float, duration("time between two looks at that address", 1, 30 * DAY)] = 10 * MINUTE
    issuer: Annotated[str, text("what `iss` must say; empty: anything", r"(?s:.*)", "a text")] = ""
    audience: Annotated[str, text("what `aud` must hold; empty: anything", r"(?s:.*)", "a text")] = ""
    leeway: Annotated[float, duration("how far ahead the issuer's clock may be: `iat` and `nbf`", 0, HOUR)] = 10.0
    claims: Claims = msgspec.field(default_factory=Claims)


class Auth(Section, frozen=True, kw_only=True):
    mode: Annotated[Literal["builtin", "external", "both"], meaning("who has the accounts and signs the tokens")] = (
        "builtin"
    )
    registration: Annotated[
        Literal["open", "invite", "closed"],
        meaning("who may make an account: anybody, who has a link of `main.py invite`, or nobody"),
    ] = "open"
    secret: Annotated[
        str,
        text(
            "key that signs tokens, at least 32 characters; empty: made in data_dir",
            r"|(?s:.{32,})",
            "at least 32 characters",
        ),
    ] = ""
    access_ttl: Annotated[float, duration("life of an access token", 1, 30 * DAY)] = 15 * MINUTE
    refresh_ttl: Annotated[float, duration("life of a refresh token", 1, 3650 * DAY)] = 30 * DAY
    refresh_grace: Annotated[
        float, duration("a used refresh token may be used again for so long, where its answer was lost", 0, HOUR)
    ] = 30.0
    user_types: Annotated[
        list[str], names("what userType may say at a registration, in any case; rights come with none of them")
    ] = msgspec.field(default_factory=lambda: list(USER_TYPES))
    external: External = msgspec.field(default_factory=External)


class Messages(Section, frozen=True, kw_only=True):
    max_length: Annotated[int, meaning("most characters of one message", ge=1, le=1_000_000)] = 10_000
    max_batch: Annotated[int, meaning("most messages stored in one write", ge=1, le=10_000)] = 200
    edit_window: Annotated[float, duration("how long a message may be edited; 0 is for ever", 0, 36_500 * DAY)] = 0.0


class Rooms(Section, frozen=True, kw_only=True):
    max_cached: Annotated[int, meaning("most rooms kept in memory, about 2 KB each", ge=1, le=10_000_000)] = 20_000
    max_members: Annotated[int, meaning("most members of one room", ge=2, le=100_000)] = 1_000
    max_cached_people: Annotated[int, meaning("most people whose rooms are remembered", ge=1, le=10_000_000)] = 20_000


class OfflineQueue(Section, frozen=True, kw_only=True):
    retention: Annotated[float, duration("how long an entry waits for its user", 0.001, 365 * DAY)] = DAY
    max_messages: Annotated[int, meaning("most entries per user, oldest dropped first", ge=1, le=100_000)] = 1000
    max_bytes: Annotated[int, size("most bytes of entries per user, oldest dropped first", 64 * KIB, GB)] = 16 * MIB
    max_members: Annotated[
        int, meaning("rooms with more members keep no queues: sync and history have everything", ge=2, le=100_000)
    ] = 100


class Presence(Section, frozen=True, kw_only=True):
    grace: Annotated[float, duration("wait after the last socket before a user is offline", 0, HOUR)] = 5.0
    lease: Annotated[float, duration("life of a presence key that is not renewed", 0.1, DAY)] = 60.0
    max_members: Annotated[int, meaning("rooms with more members tell nobody who is online", ge=2, le=100_000)] = 100


class Receipts(Section, frozen=True, kw_only=True):
    max_members: Annotated[
        int, meaning("rooms with more members tell only the reader of receipts, and nobody who types", ge=2, le=100_000)
    ] = 50


class Typing(Section, frozen=True, kw_only=True):
    timeout: Annotated[float, duration("typing stops by itself after", 0.05, HOUR)] = 5.0


class Sweep(Section, frozen=True, kw_only=True):
    interval: Annotated[float, duration("time between two rounds of periodic work", 0.05, DAY)] = 30.0


class Limits(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, meaning("turns all rate limits on or off")] = True
    messages: Annotated[int, meaning("messages per second and user, sustained", ge=1, le=1_000_000)] = 100
    messages_burst: Annotated[int, meaning("messages of one user at once", ge=1, le=1_000_000)] = 3000
    events: Annotated[int, meaning("other socket events per second and user", ge=1, le=1_000_000)] = 200
    login_failures: Annotated[
        int, meaning("failed logins per account and address in one window", ge=1, le=1_000_000)
    ] = 10
    login_window: Annotated[float, duration("length of that window", 1, DAY)] = 5 * MINUTE
    account_login_failures: Annotated[
        int, meaning("failed logins per account from all addresses, where it is not known", ge=1, le=1_000_000)
    ] = 50
    address_login_failures: Annotated[
        int, meaning("failed logins per address for all accounts", ge=1, le=1_000_000)
    ] = 30
    slow_login_window: Annotated[float, duration("length of the windows of these two", 1, 30 * DAY)] = HOUR
    registrations_per_hour: Annotated[int, meaning("new accounts per address and hour", ge=1, le=1_000_000)] = 1000
    rooms_per_hour: Annotated[int, meaning("new rooms per user and hour", ge=1, le=1_000_000)] = 1000
    uploads_per_minute: Annotated[int, meaning("uploads per user and minute", ge=1, le=1_000_000)] = 300
    searches: Annotated[int, meaning("searches per second and user", ge=1, le=1_000_000)] = 20
    reads: Annotated[
        int,
        meaning("REST reads per second and user; each further 64 KiB of an answer counts as one", ge=1, le=1_000_000),
    ] = 100
    exports_per_hour: Annotated[int, meaning("exports of one's own data per user and hour", ge=1, le=1_000_000)] = 5
    profile_changes_per_minute: Annotated[
        int, meaning("changes of one's profile per user and minute", ge=1, le=1_000_000)
    ] = 20


class Socket(Section, frozen=True, kw_only=True):
    ping_interval: Annotated[float, duration("time between two pings", 0.1, HOUR)] = 25.0
    ping_timeout: Annotated[float, duration("longest wait for the answer to a ping", 0.1, HOUR)] = 20.0
    connect_timeout: Annotated[float, duration("longest time without a login", 0.1, HOUR)] = 10.0
    max_unsent: Annotated[int, size("bytes a slow reader may leave unread before it is cut", 16 * KIB, 256 * MIB)] = MIB
    max_per_user: Annotated[int, meaning("most sockets of one user at once", ge=1, le=1_000_000)] = 100
    max_pending: Annotated[
        int, meaning("events of one connection in work before its reading pauses", ge=1, le=100_000)
    ] = 100


class Cors(Section, frozen=True, kw_only=True):
    origins: Annotated[list[str], web_origins("other origins whose pages may call, e.g. https://app.example.com")] = []
    headers: Annotated[list[str], header_names("headers that such pages may send beside the usual ones")] = []


class Uploads(Section, frozen=True, kw_only=True):
    max_image: Annotated[int, size("largest image", 1, 100 * GB)] = 20 * MB
    max_file: Annotated[int, size("largest file of another kind", 1, 100 * GB)] = 100 * MB
    quota: Annotated[int, size("most bytes one user may keep", 1, 1_000_000 * GB)] = 5 * GB
    orphan_ttl: Annotated[
        float, duration("an upload that no message and no profile uses is removed after", 1, 365 * DAY)
    ] = DAY
    store: Annotated[Literal["disk", "gridfs"], meaning("where the bytes are kept")] = "disk"


class Web(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, meaning("serves the browser client at /")] = True
    load_remote_images: Annotated[bool, meaning("the browser client loads pictures of other hosts without a click")] = (
        False
    )


class Metrics(Section, frozen=True, kw_only=True):
    allow: Annotated[list[str], ip_networks("addresses and networks that may read /metrics without a token")] = (
        msgspec.field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])
    )
    token: Annotated[
        str,
        text(
            "whoever sends it as a bearer token may read /metrics; empty: nobody", r"|\S{16,}", "16 characters or more"
        ),
    ] = ""


ContactRule = Literal["everybody", "shared_rooms", "nobody"]


class Profiles(Section, frozen=True, kw_only=True):
    contact: Annotated[
        ContactRule,
        meaning("who sees, and finds by their beginning, a user's email and phone number besides that user"),
    ] = "shared_rooms"
    deleted_messages: Annotated[
        Literal["keep", "delete"],
        meaning("messages of an account that its owner deletes stay, of Deleted user, or go too"),
    ] = "keep"


class Settings(Section, frozen=True, kw_only=True):
    """The whole configuration. Durations are seconds, sizes are bytes; after `load`, `data_dir` is absolute."""

    data_dir: Annotated[
        str,
        text(
            "folder of all that is kept, relative to the folder of this file; ~ is your home",
            r"[^\0\ud800-\udfff]+",
            "a path",
        ),
    ] = "./data"
    server: Server = msgspec.field(default_factory=Server)
    log: Log = msgspec.field(default_factory=Log)
    mongodb: MongoDB = msgspec.field(default_factory=MongoDB)
    redis: Redis = msgspec.field(default_factory=Redis)
    auth: Auth = msgspec.field(default_factory=Auth)
    profiles: Profiles = msgspec.field(default_factory=Profiles)
    messages: Messages = msgspec.field(default_factory=Messages)
    rooms: Rooms = msgspec.field(default_factory=Rooms)
    offline_queue: OfflineQueue = msgspec.field(default_factory=OfflineQueue)
    presence: Presence = msgspec.field(default_factory=Presence)
    receipts: Receipts = msgspec.field(default_factory=Receipts)
    typing: Typing = msgspec.field(default_factory=Typing)
    sweep: Sweep = msgspec.field(default_factory=Sweep)
    limits: Limits = msgspec.field(default_factory=Limits)
    socket: Socket = msgspec.field(default_factory=Socket)
    cors: Cors = msgspec.field(default_factory=Cors)
    uploads: Uploads = msgspec.field(default_factory=Uploads)
    web: Web = msgspec.field(default_factory=Web)
    metrics: Metrics = msgspec.field(default_factory=Metrics)
