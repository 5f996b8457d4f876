"""Images and labels that are stored as arrays of numbers: reading the files, telling images from labels, pixels."""
