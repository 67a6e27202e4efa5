"""From files to batches: readers, image and video decoding, data sets, the Lightning data module."""
