"""The pure heart: records, history, prompt view and the turn machine. No I/O, no clock, no tasks."""
