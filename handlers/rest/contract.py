"""`/api/v1/openapi.json` and `/api/v1/asyncapi.json`: the contract for machines."""

import msgspec

from handlers.base import ApiHandler


class DocumentHandler(ApiHandler):
    """One of the documents; the last part of the path is its name. It changes with the version and the settings."""

    async def get(self) -> None:
        documents = self.settings["documents"]
        body = documents.openapi if self.request.path.endswith("openapi.json") else documents.asyncapi
        self.set_header("Cache-Control", "no-cache")
        await self.answer_large(msgspec.Raw(body))
