"""Cases that every client must decide alike, as JSON: read by the tests here and by those of other languages.

`credentials.json`   is this leaf that device of that account, and may it be here?
`room_policy.json`   may this committer make this change?

Binary values are base64url without padding. `make.py` writes both files; a test checks that it still would.
"""
