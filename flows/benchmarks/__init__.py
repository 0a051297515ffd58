"""Speed, measured as ratios against named baselines in one run; see BENCHMARKS.md.

``engine`` runs the parts ``decode``, ``kernel``, ``pane``, ``store`` and ``whole``, a module
each; ``baselines`` holds what they are compared with.
"""
