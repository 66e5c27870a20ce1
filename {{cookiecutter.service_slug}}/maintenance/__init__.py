"""Keep the service current: with its template, and with its dependencies."""
