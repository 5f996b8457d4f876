"""Lists of classes beside images: the names of numbered classes, and the images of each class."""
