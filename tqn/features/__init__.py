"One row a clip: made once, kept, spliced."
