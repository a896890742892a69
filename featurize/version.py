"""Version of Earmark. A constant, because cluster nodes receive only the code, without package metadata."""

VERSION = "0.1.0"
