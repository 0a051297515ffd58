"""Telling people and programs of alerts: who is told what, in which form, and until it arrived.

``dispatcher`` is what the dataflow hands alerts to; ``outbox`` is what of them is in the store;
the other modules are one kind of notifier or one format each. Nothing here imports the engine.
"""
