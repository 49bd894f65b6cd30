"""The hydra entry of dpsc, and one thin flow a file."""
