"Clips become answers."
