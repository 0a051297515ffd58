"""Alerts as text: one module a format, each a pure function of an alert.

They take alerts whose texts are fit to be shown (``flows.notify.text.presentable``), and escape
what is special in their format.
"""
