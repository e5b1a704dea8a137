"""The events that the log tells of, each with what it means. docs/monitoring.md lists them from here."""

from collections.abc import Mapping
from typing import Final

# Any entry of a library: its text is not ours.
OF_LIBRARY: Final = "library"

EVENTS: Final[Mapping[str, str]] = {
    # The start, the end, and the configuration
    "unknown_environment_variables_ignored": "a variable begins with `MADANG_` and is no setting",
    "file_descriptor_limit_raised": "to what the system allows",
    "file_descriptor_limit_not_raised": "the system did not allow it",
    "connection_limits": "how many connections are accepted",
    "server_max_connections_lowered": "there are too few file descriptors for that many",
    "stopping": "the server was told to stop, and finishes what it has begun",
    "configuration_reloaded": "which settings changed, and which wait for a restart",
    "configuration_not_reloaded": "the new one is faulty: the old one stays",
    "database_upgrade_started": "nobody is served before it has finished",
    "database_upgrade_finished": "the database has this version now",
    "search_index_upgrade": "how far it is",
    "room_members_upgrade": "how far it is",
    "attachments_upgrade": "how far it is",
    # Stores
    "store_available": "a store answers again",
    "store_unavailable": "a store does not answer: what needs it is refused or waits",
    "store_full": "Redis takes no more: messages for offline users wait in memory",
    "command_refused": "Redis refused a command: another program may use the same keys",
    "offline_queues_may_be_evicted": "Redis may drop keys when its memory is full",
    "storage_not_persistent": "this MongoDB forgets everything when it stops",
    "clock_skew": "the clocks of this machine and of MongoDB differ",
    "disk_unavailable": "uploads cannot be stored",
    "check_failed": "what `main.py check` found",
    "another_server_runs_on_this_database": "both show stale rooms: end all but one",
    # Embedded stores
    "child_start_failed": "an embedded store did not start; it is tried again",
    "child_exited": "an embedded store ended; it is restarted",
    "child_broken": "an embedded store cannot write; it is restarted",
    "orphan_killed": "an embedded store of an earlier server still ran",
    "redis_starts_empty": "its files are missing or damaged",
    # Messages
    "message_batch_write_failed": "a mistake of ours; the senders were refused",
    "change_batch_write_failed": "a mistake of ours; those who changed messages were refused",
    "live_delivery_failed": "a mistake of ours; the message comes by history and `sync`",
    "delivery_of_a_change_failed": "a mistake of ours; the change comes by history and `sync`",
    "log_consumer_failed": "a mistake of ours; the consumer sees the messages again",
    "in_flight_journal_write_failed": "after a crash now, offline queues miss the last messages",
    "in_flight_journal_unreadable": "after a crash, offline queues miss the last messages",
    "recovered_after_crash": "what was stored and not delivered when the server was killed",
    "offline_queues_lost": "Redis had lost them; they were made again",
    "offline_queue_not_writable": "another program has written at the key of a queue",
    "offline_queue_buffer_full": "Redis has been away for long: new messages for offline users are in the log only",
    "damaged_offline_queue_entries_quarantined": "they are kept aside, and the messages are in the log",
    # People
    "user_made_from_a_token": "somebody new of the other service",
    "token_refused": "why a token of another service was refused",
    "key_set_read": "the keys of the other service are known",
    "key_set_unavailable": "the keys of the other service could not be read; known ones stay valid",
    "key_of_a_key_set_is_of_no_use": "it is too short, or of another kind than was configured",
    "message_reported": "see `main.py reports`",
    "online_event_dropped": "a store was unavailable",
    "offline_event_deferred_to_a_sweep": "a store was unavailable",
    "presence_leases_not_renewed": "a store was unavailable",
    "search_index_update_deferred": "the next sweep makes up for it",
    "upload_removal_deferred": "the next sweep makes up for it",
    # Requests and connections
    "request_failed": "a mistake of ours; the client got `INTERNAL`",
    "operation_failed": "a mistake of ours; the client got `INTERNAL`",
    "operation_finished": "every call, with its outcome",
    "socket_authentication_failed": "a mistake of ours; the client got `INTERNAL`",
    "connection_check_failed": "a mistake of ours; it is tried again",
    "ending_overdue_connections_failed": "a mistake of ours; it is tried again",
    "connections_refused": "a limit of connections was reached",
    "accepting_connections_failed": "the process has too few file descriptors",
    "background_task_failed": "work that nobody waited for; with a traceback it is a mistake of ours",
    "background_task_stopped": "a store was unavailable",
    "periodic_work_failed": "a mistake of ours; it is tried again",
    "periodic_work_deferred": "a store was unavailable",
    OF_LIBRARY: "a library of ours logged something; values are left out",
}
