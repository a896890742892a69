"""Table of export formats. It imports no machine-learning library, because the command line lists the formats."""

from enum import StrEnum


class ExportFormat(StrEnum):
    """An export format; `train.export.writers.WRITERS` has its functions.

    Attributes:
        suffix: File name suffix; empty for a folder.
        packages: Modules needed to write and check an export, in addition to TensorFlow.
    """

    suffix: str
    packages: tuple[str, ...]

    def __new__(cls, name: str, suffix: str, *packages: str) -> "ExportFormat":
        """Create a member from a line of the table below."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.suffix = suffix
        member.packages = packages
        return member

    keras = "keras", ".keras"
    savedmodel = "savedmodel", ""
    tflite = "tflite", ".tflite", "ai_edge_litert"
    onnx = "onnx", ".onnx", "onnx", "onnxruntime", "tf2onnx"
