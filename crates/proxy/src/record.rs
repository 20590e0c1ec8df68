//! The one record of a request.
