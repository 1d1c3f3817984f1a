"""An image in, frontends that serve it out."""
