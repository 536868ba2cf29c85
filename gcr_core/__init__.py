"""Generative cross-modal retrieval: a multimodal language model memorises a gallery's images and recalls them."""
