"Rows of a table become padded batches."
