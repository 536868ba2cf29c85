"""Layout: the files of a memory's folder, by their names, and the version of their format. Opens none."""

FORMAT_VERSION = 1
MANIFEST_FILE = "memory.json"
IDENTIFIERS_FILE = "identifiers.safetensors"
QUERIES_FILE = "queries.safetensors"
CARD_FILE = "README.md"
ADAPTER_FILE = "model/adapter_config.json"
"""Is there where a memory holds an adapter of its backbone instead of a whole model."""
