"""Light: lamps and surroundings, reflectance, shadows."""
