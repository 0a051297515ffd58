"""Detection: what is measured of each closed pane, and when that becomes an alert.

``detector`` is what a detector implements, ``window`` what it looks at, ``alert`` what comes out,
``lifecycle`` the way from readings to alerts. Plain classes; ``flows.operators.detect`` drives
them.
"""
