"""Learning rates and weights as functions of the images seen, and how many images a run of --minutes has."""
