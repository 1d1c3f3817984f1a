"""Images opened for reading: one file per format."""
