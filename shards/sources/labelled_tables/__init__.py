"""Tables that label images: which ones name the images, and what each of their columns is."""
