"""A network as an ONNX graph: exported or read from a file, cut for a question, run by ONNX Runtime."""
