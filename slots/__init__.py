"""The contract between an image and a frontend: pure data and text, no I/O."""
