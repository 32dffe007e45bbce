"""The Hello server program: what a fleet is made of unless it is somebody's own."""
