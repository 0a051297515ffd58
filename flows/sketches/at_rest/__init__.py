"""Sketches as they lie in the store: read back, merged over any windows, and asked.

    from flows.sketches.at_rest import merge, only, shared

    sketches = merge("cpc", images)          # of any windows, days, tenants
    sketches.estimate()                      # how many different, with bounds
    shared(monday, tuesday)                  # how many in both
    merge("frequency", images).top(10)       # the heaviest keys, with bounds
    merge("superspread", images).top(10)     # keys with the most different elements

The bytes of a kind have versions; the store names kind and version beside them:

=========== ======= ====================================================================
cpc         1       Apache DataSketches' own CPC image, which its other languages read
frequency   1       ``flows.sketches.frequency``: sealed, DataSketches' frequent-items and
                    Count-Min images of packets and of bytes; the keys while they are few
superspread 1       ``flows.sketches.superspread.image``: sealed; see there
=========== ======= ====================================================================

Sealed bytes begin with the format's letters and version and a checksum, so damage is found. A CPC
image has neither: only its structure is checked here, and the library trusts the rest.
"""

from flows.sketches.at_rest.formats import KINDS, Sketch, check_version, encode, seed_id
from flows.sketches.at_rest.merging import merge
from flows.sketches.at_rest.overlap import only, shared

__all__ = ["KINDS", "Sketch", "check_version", "encode", "merge", "only", "seed_id", "shared"]
