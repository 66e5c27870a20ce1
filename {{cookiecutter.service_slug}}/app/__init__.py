"""The online half: a FastAPI service around one ONNX model.

It imports none of the other packages, so that its image holds the serving
dependencies only.
"""
