"""The pump: pure logic between the wire and the drivers. Imports no hardware module."""
