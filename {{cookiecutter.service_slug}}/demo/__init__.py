"""User interfaces of the service. They use only its HTTP API."""
