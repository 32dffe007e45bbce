"""The pure half of stormproof: what a channel decides, without I/O, clocks, threads or randomness of its own.

Time comes in as `now` (seconds from any origin, never going back), randomness as a `random.Random`. Whatever drives
this code (threads, asyncio, virtual time) performs the actions that it returns.
"""
