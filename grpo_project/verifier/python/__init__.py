"""How Python answers are judged, on the trusted side of the cage. May import ``cage``; never ``engine``."""
