"""What people use instead, modelled from its published rules: one rule a file, its source at the line that obeys it."""
