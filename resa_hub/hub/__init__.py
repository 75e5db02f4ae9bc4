"""Places where adapters are shared: a folder, the Hub. Each checks every byte against the digests that it keeps."""
