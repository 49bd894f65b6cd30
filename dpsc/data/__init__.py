"""Tables in, checked tensors out: readers of public data, the folder they lie in, synthetic generators."""
