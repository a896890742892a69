"""Networks and the devices they are trained on."""
