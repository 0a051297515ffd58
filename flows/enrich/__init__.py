"""Explanations of alerts: by written-down templates always, by a language model if one is set.

``enricher`` is what the dataflow hands alerts to. Texts for people come out of ``templates``, or
out of an answer (``answer``) whose claims are checked (``check``) against the rows that the model
was given (``pack``, ``context``). ``ask`` answers questions of people. Nothing here changes an
alert, its severity, or anything else than its words; nothing leaves the machine unless the settings
say so.
"""
