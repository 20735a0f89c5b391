"""A network as an ONNX graph: exported or read from a file, cut for a question, run by ONNX Runtime."""

OPSET = 17
"""The set of ONNX operators in which graphs are written."""
