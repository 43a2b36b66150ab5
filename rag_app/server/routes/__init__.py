"""The routes, a file per family; each turns a request into calls of the rest and back."""
