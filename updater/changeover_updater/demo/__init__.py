"""The demonstration: rendered shots, small nets trained on other pictures, and the releases made of them."""
