"""What `make` runs, and what is run by hand as docs/contract.md says; one purpose each."""
