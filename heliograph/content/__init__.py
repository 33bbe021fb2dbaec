"""What is inside the ciphertext, pure: MIMI content, attachments, and the client's half of franking."""
