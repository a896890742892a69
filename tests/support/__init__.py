"""Helpers of several test modules; fixtures are in conftest.py."""
