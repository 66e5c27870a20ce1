"""Deployment: Kustomize manifests, and the program behind `make deploy`.

It needs Python and kubectl, and no environment: a deployment job starts at once.
"""
