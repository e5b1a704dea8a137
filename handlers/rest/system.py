"""`/healthz`, `/readyz` and `/metrics`: liveness, readiness, and what there is to be watched."""

from handlers.base import ApiHandler
from server.metrics import CONTENT_TYPE
from server.operations.others import Scrape


class HealthHandler(ApiHandler):
    """Liveness: answers 200 while the event loop runs."""

    async def get(self) -> None:
        self.answer(await self.execute())


class ReadyHandler(ApiHandler):
    """Readiness: 200 if both stores answer, else 503 naming those that do not."""

    async def get(self) -> None:
        readiness = await self.execute()
        self.answer(readiness, 503 if readiness.missing else 200)


class MetricsHandler(ApiHandler):
    """Prometheus's text format, for the addresses and the token of the settings."""

    async def get(self) -> None:
        token = self.request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.set_header("Content-Type", CONTENT_TYPE)
        self.write(await self.execute(lambda: Scrape(token)))
