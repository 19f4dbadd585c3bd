"""Anthropic's own words for what this platform says: requests and answers of chats, and errors.

Wire facts: the types of the official `anthropic` SDK 2.12, https://platform.claude.com/docs/en/api/messages.
"""
