"""From a capture to Kafka: packets are cut into batches, numbered and delivered in order.

``batcher`` scatters records over partitions and encodes batches (no I/O, no clock); ``kafka``
delivers them within a bounded queue; ``topic`` finds or creates the topic; ``agent`` is the loop
that joins a capture to both; ``settle`` says goodbye for a probe that was killed; ``replay`` makes
capture files look like a live capture.
"""

from __future__ import annotations
