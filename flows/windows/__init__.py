"""Event time: panes, units of work, horizons. Pure classes; bytewax is elsewhere."""
