"""One audio file to MFCC segments: bytes, decoded samples, features."""
