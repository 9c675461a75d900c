"""Speed, memory and the machine itself."""
