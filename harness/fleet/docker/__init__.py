"""Containers: a fleet driven with the docker SDK."""
