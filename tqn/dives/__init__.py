"The rendered data set."
