"""Where results go: the store's tables."""
