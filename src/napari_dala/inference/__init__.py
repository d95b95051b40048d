"""The network on tiles: devices, precision, streams, faster trunks, reading pixels for it."""
