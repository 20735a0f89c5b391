"""The queue that computes runs outside the server, the processes that serve it, and who keeps them alive."""
