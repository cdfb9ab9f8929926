"""One module per part of parity/golden/; see parity/README.md."""
