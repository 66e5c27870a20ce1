"""Deployment: Kustomize manifests, and the program behind `make deploy` and `make rollback`.

It needs Python and kubectl, and nothing of the environment: a deployment job starts at once.
"""
