"Tables of many runs."
