"""Small answers over plain HTTP, and who may ask from which page."""
