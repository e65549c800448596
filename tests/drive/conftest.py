from tests.drive.clients import async_world, world

__all__ = ["async_world", "world"]
