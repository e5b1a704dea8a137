"""`/healthz` and `/readyz`: is the process alive, and can it serve."""

from handlers.base import ApiHandler


class HealthHandler(ApiHandler):
    """Alive: the event loop answers."""

    public = True

    async def get(self) -> None:
        self.answer({"status": "ok"})


class ReadyHandler(ApiHandler):
    """Able to serve: both stores answer; otherwise 503 naming what does not."""

    public = True

    async def get(self) -> None:
        missing = await self.context.health.find_unavailable()
        self.answer({"status": "unavailable" if missing else "ok", "missing": missing}, 503 if missing else 200)
