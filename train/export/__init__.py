"""Export of a trained model to Keras, SavedModel, TensorFlow Lite and ONNX."""
