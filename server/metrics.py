"""Metrics in Prometheus's text format, all declared here: read at each scrape, or counted as things happen."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from server.distributions import Distributions
from server.errors import ChatError, RateLimited

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
# In seconds: from what memory answers to what a client gives up on.
LATENCIES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
OK: Final = "OK"

# Values by the label of each; a metric without a label has one, under the empty text.
Values = Mapping[str, float]


class Declared(NamedTuple):
    """A metric that is read at each scrape. `label` names what its values are told apart by."""

    name: str
    words: str
    is_counter: bool = False
    label: str = ""


SOCKETS: Final = Declared("madang_sockets", "Open sockets on /chat", label="transport")
ONLINE: Final = Declared("madang_users_online", "Users with a socket")
ROOMS_CACHED: Final = Declared("madang_rooms_cached", "Rooms in memory")
MESSAGES_WAITING: Final = Declared("madang_messages_waiting", "Messages that wait to be written")
OFFLINE_BYTES: Final = Declared("madang_offline_waiting_bytes", "Bytes for offline queues that wait to be written")
UNSENT_BYTES: Final = Declared("madang_unsent_bytes", "Bytes that wait for slow readers")
ROOMS_IN_FLIGHT: Final = Declared("madang_rooms_in_flight", "Rooms that a consumer of the log is not done with")
STORE_CALLS: Final = Declared("madang_store_calls", "Calls of a store", is_counter=True, label="store")
STORE_FAILURES: Final = Declared(
    "madang_store_failures", "Calls that a store did not answer", is_counter=True, label="store"
)
STORE_UP: Final = Declared("madang_store_up", "Whether a store answers", label="store")
CONSUMER_LAG: Final = Declared(
    "madang_consumer_lag", "Messages that a consumer of the log is not done with, in rooms in flight", label="consumer"
)
READ: Final = (
    SOCKETS,
    ONLINE,
    ROOMS_CACHED,
    MESSAGES_WAITING,
    OFFLINE_BYTES,
    UNSENT_BYTES,
    ROOMS_IN_FLIGHT,
    STORE_CALLS,
    STORE_FAILURES,
    STORE_UP,
    CONSUMER_LAG,
)


class Metrics:
    """One for each server. `readings` are set once what they read is there: one for each of `READ`."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.readings: dict[Declared, Callable[[], Values]] = {}
        self._operations = Distributions(
            "madang_operation_seconds",
            "Time of an operation, of REST and sockets, by its outcome: OK or the code of its error",
            LATENCIES,
            ("operation", "outcome"),
        )
        batch = Distributions("madang_message_batch", "Messages that were stored in one write", BATCH_SIZES)
        write = Distributions("madang_message_write_seconds", "Time until one write of messages was durable", LATENCIES)
        lag = Distributions("madang_loop_lag_seconds", "How late the event loop was", LATENCIES)
        self._store_calls = Distributions(
            "madang_store_seconds", "Time of a call of a store, whether it was answered or not", LATENCIES, ("store",)
        )
        self.message_batch, self.message_write, self.loop_lag = batch.of(), write.of(), lag.of()
        self._refusals = Counter(
            "madang_refusals",
            "Refusals by a limit: its setting, or what else was used up",
            ["limit"],
            registry=registry,
        )
        for metric in (self._operations, batch, write, lag, self._store_calls, _Readings(self)):
            registry.register(metric)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)

    def note_operation(self, name: str, outcome: str, seconds: float) -> None:
        """An operation has ended."""
        self._operations.of(name, outcome).observe(seconds)

    def note_batch(self, size: int, seconds: float) -> None:
        """So many messages became durable with one write, which took so long."""
        self.message_batch.observe(size)
        self.message_write.observe(seconds)

    def note_refusal(self, error: ChatError) -> None:
        """An error was answered. It is counted if a limit was its reason."""
        if isinstance(error, RateLimited):
            self.note_limit(error.limit)

    def note_limit(self, limit: str) -> None:
        """Somebody was refused because of this limit."""
        self._refusals.labels(limit).inc()

    def store_calls(self, store: str) -> Callable[[float], None]:
        """To be called with the seconds of each call of a store."""
        return self._store_calls.of(store).observe

    def expose(self) -> bytes:
        """All metrics as text."""
        return generate_latest(self._registry)


class _Readings(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        return [_family(declared, {}) for declared in READ]

    def collect(self) -> Iterator[Metric]:
        for declared, read in self._metrics.readings.items():
            yield _family(declared, read())


def _family(declared: Declared, values: Values) -> Metric:
    labels = [declared.label] if declared.label else []
    kind = CounterMetricFamily if declared.is_counter else GaugeMetricFamily
    family = kind(declared.name, declared.words, labels=labels)
    for label, value in values.items():
        family.add_metric([label] if declared.label else [], value)
    return family
