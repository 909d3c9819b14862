//! The packed weights file: format, reader. Untrusted input.
