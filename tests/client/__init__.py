"""Tests of the SDK's parts; whole clients against a server are in `tests/scenarios`."""
