"""What users met, over real sockets and through the public client alone.

The servers here are a few lines of asyncio of their own (:mod:`tests.users.server`), so that the fault kit that comes
with the library proves nothing about itself.
"""
