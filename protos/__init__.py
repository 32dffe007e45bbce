"""The protocol buffers of the Hello fleet; the modules beside this file are generated (see generate.py)."""
