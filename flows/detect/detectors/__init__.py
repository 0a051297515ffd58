"""The detectors, a module each; ``flows.detect.registry`` knows them by name."""
