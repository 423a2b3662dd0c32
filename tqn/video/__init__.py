"A file becomes exact frames, clips and tensors."
