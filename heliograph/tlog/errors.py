"""One way to say no: every refusal of this package is a ProofError whose text is a sentence for a person."""


class ProofError(Exception):
    """A proof, signature or structure of a transparency log does not hold; the text says which and why."""
