//! Examples, row by row.
