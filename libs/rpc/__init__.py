"""How services of the platform serve and call each other: one server, one channel, one set of rules."""
