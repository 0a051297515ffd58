"""SuperSpread: which keys touch the most different elements, and how many.

Two variants with one interface:

- ``SuperSpread`` is the default. Its state is a function of the set of pairs alone, so sketches
  of any parts of the traffic merge exactly; every estimate has an interval, and the table of
  candidates says how many peers a key needs to be found for certain.
- ``ClassicSuperSpread`` is the published algorithm (Wang, "Enhancing Accuracy for Super Spreader
  Identification in High-Speed Data Streams", PVLDB 17(11), 2024): no merge, no intervals.
"""

from flows.sketches.superspread.classic import ClassicSuperSpread
from flows.sketches.superspread.mergeable import SuperSpread
from flows.sketches.superspread.result import Spreader, SpreadOver, SpreadTop

__all__ = ["ClassicSuperSpread", "SpreadOver", "SpreadTop", "Spreader", "SuperSpread"]
