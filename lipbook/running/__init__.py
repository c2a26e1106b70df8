"""Running the book: finding it, re-running, refreshing, checking and building its chapters.

Every module here imports what is heavy (papermill, nbclient, nbformat) inside the functions that
need it, so that the command line can refuse bad input at once.
"""
