"""How the built-in weights came to be: procedurally drawn pictures and the training that used them."""
