"""The world: what processors, issuers and customers do, the engine that lets time pass, and the log of it."""
