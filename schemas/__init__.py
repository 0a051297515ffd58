"""What probe and dataflow share: the packet record, its Avro form, framing and hashing."""

from schemas import kernel_cache

kernel_cache.use()
