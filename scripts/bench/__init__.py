"""Measures: what the client takes beside what it replaces, and parts with measures of their own."""
