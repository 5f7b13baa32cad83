"""Access: who may publish, and who may have the last file descriptors."""
