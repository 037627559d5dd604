//! kubectl: the command line.
