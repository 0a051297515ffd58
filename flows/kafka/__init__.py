"""Kafka: how clients are configured, the topics, and what arrives.

``client`` makes librdkafka's properties of the settings and words its errors; ``topics`` creates
and lists our topics; ``tail`` reads messages without joining any group; ``continuity`` finds what
is missing between a probe's batches; ``lines`` writes them for people and machines;
``dead_letters`` lists messages that could not be used, and sends them again.
"""

from __future__ import annotations
