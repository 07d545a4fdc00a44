"""What is built upon handles, one resource a file; loaded when asked for."""
