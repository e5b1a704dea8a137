"""`/healthz` and `/readyz`: liveness and readiness."""

from handlers.base import ApiHandler


class HealthHandler(ApiHandler):
    """Liveness: answers 200 while the event loop runs."""

    async def get(self) -> None:
        await self.execute()
        self.answer({"status": "ok"})


class ReadyHandler(ApiHandler):
    """Readiness: 200 if both stores answer, else 503 naming those that do not."""

    async def get(self) -> None:
        missing = await self.execute()
        self.answer({"status": "unavailable" if missing else "ok", "missing": missing}, 503 if missing else 200)
