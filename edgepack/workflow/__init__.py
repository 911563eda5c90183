"""The verbs joined: pack, measure, report, and a plan of all three."""
