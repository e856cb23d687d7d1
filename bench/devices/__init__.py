"""Devices: what executes an artefact, and the process around it."""
