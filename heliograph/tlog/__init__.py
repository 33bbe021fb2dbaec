"""Transparency log, pure and standard library only: hashes, tiles, checkpoints, proofs anyone can check."""
