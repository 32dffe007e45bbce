"""Scenarios to JSON and back: the library's own codec (stormproof.values), which knows our classes by their names.

It imports the module of a class that nobody has imported yet: scenarios come from one's own files and processes.
"""

from stormproof.values import Codec

CODEC = Codec("stormproof", "faults", "faults.target", "harness", imports=True)

to_json = CODEC.to_json
from_json = CODEC.from_json
encode = CODEC.encode
decode = CODEC.decode
