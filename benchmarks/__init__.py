"""What the template and its services cost: `make bench` measures it all."""
