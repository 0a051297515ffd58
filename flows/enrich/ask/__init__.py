"""Questions about the traffic in plain words: ``netspectra ask``.

The model looks things up by a fixed set of queries that only read (``queries``, ``lookup``); what
it then says is checked claim by claim (``claims``) against the rows that they gave, and only what
holds is shown. ``dialog`` runs it all, within limits; ``session`` keeps what was said before.
"""
