"""Toxiproxy: how one is found, installed and driven, and a small one of our own that speaks the same HTTP
API.
"""
