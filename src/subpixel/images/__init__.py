"""Still pictures: read, enlarge, write."""
