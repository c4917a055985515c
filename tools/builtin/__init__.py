"""How the built-in weights came to be: procedurally drawn images and the training that used them."""
