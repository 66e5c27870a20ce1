"""What the service can carry: measured on the model and the rows of this repository.

It talks to the service over HTTP. From `app` it takes the contract, the settings and,
for the bare limit, the model; `app` imports none of it.
"""
