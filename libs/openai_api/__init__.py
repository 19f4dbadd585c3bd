"""OpenAI's own words for what this platform says: requests and answers of chats, and errors.

Wire facts: the request and response types of the official `openai` SDK, https://platform.openai.com/docs/api-reference.
"""
