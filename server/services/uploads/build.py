"""Builds the upload services."""

from typing import NamedTuple

from server.config.settings import Settings
from server.services.uploads.access import UploadAccess
from server.services.uploads.freed import FreedAttachments
from server.services.uploads.images import ImageWorkers
from server.services.uploads.ports import Limits
from server.services.uploads.receive import Uploads
from server.storage.stores import Stores


class UploadServices(NamedTuple):
    uploads: Uploads
    access: UploadAccess
    freed: FreedAttachments
    images: ImageWorkers


def build_uploads(settings: Settings, stores: Stores, limits: Limits) -> UploadServices:
    images = ImageWorkers(is_limited=settings.limits.enabled)
    access = UploadAccess(stores.upload_records, stores.blobs, stores.users)
    return UploadServices(
        Uploads(settings.uploads, stores.spool, stores.blobs, stores.upload_records, images, limits),
        access,
        FreedAttachments(stores.changes, stores.messages, access),
        images,
    )
