"""Helpers, under the name that pl-sandbox-api gave them."""

from .config import validate, validate_command

__all__ = ["validate", "validate_command"]
