"""Accounts, sign-in sessions and the tokens that prove them."""
