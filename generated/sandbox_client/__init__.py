"""Models and endpoint functions of the PremierLangage sandbox, server 3.0.3.

Generated from the description in openapi/ by `make generate`; do not edit.
"""

SERVER_VERSION = "3.0.3"
"""The server version that the description was written for."""
