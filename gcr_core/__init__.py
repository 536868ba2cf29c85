"""Generative cross-modal retrieval: a multimodal model memorises a gallery and recalls its images."""
