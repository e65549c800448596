from tests.drive.clients import world

__all__ = ["world"]
