"""What this service is: its contract, endpoints, settings and examples.

Edit these files; `serving/`, the engine that runs them, is kept up by the template.
"""
