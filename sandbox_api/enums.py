"""Codes of the sandbox, under the name that pl-sandbox-api gave them."""

from sandbox_client.models import SandboxErrCode

__all__ = ["SandboxErrCode"]
