"""The report: one HTML page about a span of traffic, whole in itself.

``scope`` says what traffic is meant, ``questions`` asks the store, ``words`` puts the answers into
sentences, ``charts`` draws them, ``page`` makes the page.
"""
