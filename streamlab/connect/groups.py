"""Consumer groups, where they have to be removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamlab.connect.settings import admin_settings
from streamlab.errors import BrokerError

if TYPE_CHECKING:
    from streamlab.connect.cluster import Cluster

_TIMEOUT = 10.0


def delete_group(cluster: Cluster, group: str) -> bool:
    """Delete a group's committed offsets; return whether there were any.

    Raises
    ------
    BrokerError
        If the broker refuses, such as for a group with members.
    """
    cluster.metadata()  # an address that does not answer is named there
    client = AdminClient(admin_settings(cluster.settings))
    try:
        client.delete_consumer_groups([group], request_timeout=_TIMEOUT)[group].result(_TIMEOUT)
    except KafkaException as error:
        reason: KafkaError = error.args[0]
        if reason.code() == KafkaError.GROUP_ID_NOT_FOUND:
            return False
        raise BrokerError(f"group {group!r} at {cluster.bootstrap} cannot be deleted: {reason.str()}") from error
    return True
