"""Images, videos and folders of frames, decoded at chosen times."""
