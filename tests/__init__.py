"""Tests: they mirror `heliograph/` folder by folder, and their names tell what the product promises."""
