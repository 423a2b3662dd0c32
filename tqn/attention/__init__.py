"What was answered, where it looked, and whether that is its evidence."
