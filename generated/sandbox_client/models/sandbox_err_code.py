from enum import IntEnum


class SandboxErrCode(IntEnum):
    UNKNOWN = -1
    TIMEOUT = -2
    RESULT_NOT_FOUND = -3
    RESULT_NOT_UTF8 = -4

    def __str__(self) -> str:
        return str(self.value)
