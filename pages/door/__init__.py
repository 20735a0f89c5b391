"""The door of the server: which names it answers to, who may frame and change it, and who its visitors are."""
