"""The store: ClickHouse, embedded (chDB) or a server, behind one class.

``store.Store`` writes and ``reader.open_for_reading`` reads; ``address`` reads the setting,
``tables`` says what an insert looks like, ``migrations/`` holds the schema.
"""
