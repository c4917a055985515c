"""Origin of the built-in weights: procedurally drawn images, and the training that used them."""
