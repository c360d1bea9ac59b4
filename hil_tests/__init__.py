"""Requirement tests that run on any bench, and the trace from requirements to tests."""
