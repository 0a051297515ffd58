"""Where packets come from; each partition turns them into units before they leave its step."""
