"""The formats of other programs, without the libraries that write them: the command line lists them, too."""

from enum import StrEnum


class ExportFormat(StrEnum):
    """A format; `train.export.writers.WRITERS` has how each is written and run.

    Attributes:
        suffix: the end of the file's name; empty for a folder.
        packages: what Python must find to write and to check an export, beside TensorFlow.
    """

    suffix: str
    packages: tuple[str, ...]

    def __new__(cls, name: str, suffix: str, *packages: str) -> "ExportFormat":
        """Take a line of the table below."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.suffix = suffix
        member.packages = packages
        return member

    keras = "keras", ".keras"
    savedmodel = "savedmodel", ""
    tflite = "tflite", ".tflite", "ai_edge_litert"
    onnx = "onnx", ".onnx", "onnx", "onnxruntime", "tf2onnx"
