"Weights are found."
