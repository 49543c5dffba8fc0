"""The driver, sessions and configuration: where the core meets the clock, the disk and the net."""
