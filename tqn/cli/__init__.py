"Parse, call, report."
