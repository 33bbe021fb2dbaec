"""Tests of the demo: that it cannot pass when something came out wrong."""
