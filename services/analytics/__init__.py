"""Analytics: keeps the facts of every chat, and tells people what they have used."""
