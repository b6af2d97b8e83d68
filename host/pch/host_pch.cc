// Nothing: the precompiled header needs a library to be made with.
