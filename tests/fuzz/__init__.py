"""Random damage to what is read from outside, each input with limits on time and memory: `make fuzz`."""
