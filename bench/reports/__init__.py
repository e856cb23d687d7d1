"""How verdicts are shown: tables for people, JSON for programs."""
