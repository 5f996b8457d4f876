"""From what a source says about its images to a label schema and label arrays."""
