"""Models and data in: Keras, SavedModel, flatbuffers; data sets and metrics."""
