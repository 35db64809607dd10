-- Asks to be told of every change of the directory. Params: none. Returns: nothing. Locks: none.
listen tollgate_directory;
