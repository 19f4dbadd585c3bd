"""Provider router: knows the providers, forwards chats to their workers, and tells how the platform stands."""
