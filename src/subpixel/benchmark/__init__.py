"""Speed, measured: our engines and other runtimes on the same network and plane, turn by turn."""
