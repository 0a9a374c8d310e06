"""Names of librdkafka's settings: which client each is for, and which are one setting under two names."""

from __future__ import annotations

# librdkafka warns about every setting that is not for the client at hand; tests/unit/connect/test_settings.py asks it for these names
_CONSUMER_ONLY = """
allow.auto.create.topics auto.commit.enable auto.commit.interval.ms auto.offset.reset check.crcs consume.callback.max.messages
coordinator.query.interval.ms enable.auto.commit enable.auto.offset.store enable.partition.eof fetch.error.backoff.ms
fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms fetch.wait.max.ms group.id group.instance.id
group.protocol group.protocol.type group.remote.assignor heartbeat.interval.ms isolation.level max.partition.fetch.bytes
max.poll.interval.ms max.poll.records offset.store.method offset.store.path offset.store.sync.interval.ms on_commit
partition.assignment.strategy queued.max.messages.kbytes queued.min.messages session.timeout.ms share.acknowledgement.mode
"""
_PRODUCER_ONLY = """
acks batch.num.messages batch.size compression.codec compression.level compression.type delivery.report.only.error
delivery.timeout.ms dr_cb enable.gapless.guarantee enable.idempotence linger.ms message.send.max.retries message.timeout.ms
on_delivery partitioner produce.offset.report queue.buffering.backpressure.threshold queue.buffering.max.kbytes
queue.buffering.max.messages queue.buffering.max.ms queuing.strategy request.required.acks request.timeout.ms retries
sticky.partitioning.linger.ms transaction.timeout.ms transactional.id
"""
_SHARED = """
bootstrap.servers broker.address.family broker.address.ttl client.dns.lookup client.id client.rack connections.max.idle.ms
debug enable.metrics.push enable.ssl.certificate.verification error_cb https.ca.location https.ca.pem log.connection.close
log_level max.in.flight max.in.flight.requests.per.connection message.copy.max.bytes message.max.bytes metadata.max.age.ms
metadata.recovery.strategy oauth_cb receive.message.max.bytes reconnect.backoff.max.ms reconnect.backoff.ms
retry.backoff.max.ms retry.backoff.ms sasl.kerberos.keytab sasl.kerberos.principal sasl.kerberos.service.name sasl.mechanism
sasl.mechanisms sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config
sasl.oauthbearer.extensions sasl.oauthbearer.method sasl.oauthbearer.scope sasl.oauthbearer.token.endpoint.url
sasl.password sasl.username security.protocol socket.connection.setup.timeout.ms socket.keepalive.enable
socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms ssl.ca.location ssl.ca.pem
ssl.certificate.location ssl.certificate.pem ssl.cipher.suites ssl.endpoint.identification.algorithm ssl.key.location
ssl.key.password ssl.key.pem ssl.keystore.location ssl.keystore.password statistics.interval.ms stats_cb throttle_cb
topic.metadata.refresh.interval.ms
"""

CONSUMER_ONLY = frozenset(_CONSUMER_ONLY.split())
PRODUCER_ONLY = frozenset(_PRODUCER_ONLY.split())
SHARED = frozenset(_SHARED.split())
"""Common ones of all clients, for the near miss of a name that librdkafka does not know."""

ALIASES = {
    "metadata.broker.list": "bootstrap.servers",
    "auto.commit.enable": "enable.auto.commit",
    "compression.codec": "compression.type",
    "max.in.flight.requests.per.connection": "max.in.flight",
    "max.partition.fetch.bytes": "fetch.message.max.bytes",
    "message.send.max.retries": "retries",
    "message.timeout.ms": "delivery.timeout.ms",
    "queue.buffering.max.ms": "linger.ms",
    "request.required.acks": "acks",
    "sasl.mechanisms": "sasl.mechanism",
}
"""Other names of one setting. Known under one name only, a user's value replaces the default."""
