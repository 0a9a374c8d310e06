"""The laws of the semantics as properties, checked against a model that shares no code with the engine."""
