"""The five ways in which this library says no, told apart by what the caller can do about them.

    MLSError
     +-- DecodeError         the bytes are not the structure they claim to be: drop them
     +-- ValidationError     well-formed, but it breaks a rule of the protocol: refuse it, its maker is at fault
     +-- VerificationError   a signature, MAC, hash or AEAD tag does not match: treat it as forged
     +-- StateError          right in itself, but not for this state (epoch, group, spent key): sync, then try again
     +-- UnsupportedError    legal MLS that this library or this member does not speak

Error texts name the rule that was broken. They never contain key material or plaintext.
"""


class MLSError(Exception):
    """Any refusal by the MLS library; catch this one at the edge."""


class DecodeError(MLSError):
    """The bytes do not encode the structure they should."""


class ValidationError(MLSError):
    """A well-formed structure breaks a rule of the protocol."""


class VerificationError(MLSError):
    """A signature, MAC, hash or authentication tag does not match."""


class StateError(MLSError):
    """The input does not fit the present state, such as a wrong epoch or a spent key."""


class UnsupportedError(MLSError):
    """A cipher suite, extension, credential or proposal that is not implemented here."""
