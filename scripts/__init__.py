"""What `make` runs, one purpose each."""
