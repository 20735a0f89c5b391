"""What a file is that is no network: a pointer, a web page, another program's format; told from how it begins."""

from __future__ import annotations

from pathlib import Path

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself: fetch it with git lfs pull",
    ),
    (
        0,
        b"\x89HDF",
        "an HDF5 file, as Keras writes: convert it to ONNX with tf2onnx",
    ),
    (4, b"TFL3", "a TensorFlow Lite model: convert it to ONNX with tf2onnx"),
    (4, b"ORTM", "a model in ONNX Runtime's own format: give the ONNX file that it was made from"),
    (0, b"ftrt", "a TensorRT engine, which runs on one kind of GPU only: give the ONNX file that it was made from"),
    (0, b"ptrt", "a TensorRT engine, which runs on one kind of GPU only: give the ONNX file that it was made from"),
    (0, b"GGUF", "a GGUF file of a language model"),
    (0, b"7767517", "an ncnn model: give the ONNX file that it was made from"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it first"),
    (0, b"BZh", "a bzip2 archive: unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (0, b"Rar!", "a RAR archive: unpack it first"),
    (0, b"\xfd7zXZ", "an xz archive: unpack it first"),
    (257, b"ustar", "a tar archive: unpack it first"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"GIF8", "a picture"),
    (0, b"%PDF", "a PDF document"),
)
_SUFFIXES = {
    ".mlmodel": "a Core ML model: give the network that it was made from as ONNX or torch code",
    ".pb": "a TensorFlow graph: convert it to ONNX with tf2onnx",
    ".tflite": "a TensorFlow Lite model: convert it to ONNX with tf2onnx",
}


def what_file(path: Path) -> str:
    """In words what a file is, and what to do; "" where it is nothing of what people take for a network.

    torch's own files (zip archives, pickles), safetensors and ONNX files are left to who reads them.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return ""
    if not head:
        return "empty: download or save it again"
    for place, magic, words in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return words
    if path.suffix.lower() in _SUFFIXES and not head.startswith(b"PK"):
        return _SUFFIXES[path.suffix.lower()]
    if b"tensorflow" in head or b"saved_model" in head:
        return _SUFFIXES[".pb"]
    return _text(head)


def _text(head: bytes) -> str:
    """What kind of text it is, "" if it is none."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="replace")
    wrong = sum((letter < " " and letter not in "\t\n\r\f") or letter == "\ufffd" for letter in text[:1000])
    if "\0" in text or text[:1] < "\t" or wrong > len(text[:1000]) // 100:
        return ""
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body", "<!--")) or "<html" in start:
        return "a web page (HTML), not the file itself: its address leads to a page, so download the file from there"
    if start.startswith("<"):
        return "an XML text, not a network"
    if start.startswith(("{", "[")):
        return "a JSON text, not a network: often it says why a download failed"
    return "a text, not a network"
