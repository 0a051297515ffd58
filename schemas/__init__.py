"""What probe and dataflow share: the packet record, its Avro form, framing and hashing."""
